"""scripts/doctor: what this computer lacks for each provider, and how to get it on this system.

Exit status: 0 when a lab can be made with the provider of a new lab (or that of ``--provider``), 1
when something is missing for it, 2 for an unknown option or provider. Nothing is changed and no
.venv is needed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from provision.setup import choice, containers, host_os, incus, virtual_machines
from provision.setup.console import ROOT
from provision.setup.containers import ContainerFacts
from provision.setup.install import how_to_install
from provision.setup.problem import PreflightProblem
from provision.setup.report import ComputerReport, ProviderReport, as_json, as_text
from provision.setup.system import System, detect
from provision.setup.virtual_machines import VirtualMachineFacts

PROVIDERS = ("lxc", "virtualbox", "libvirt", "incus", "ssh")
DEFAULT_TOPOLOGY = ROOT / "configs" / "topologies" / "distributed.yml"
CACHE = Path("/var/cache/foobar-lab")
RESERVED_MIB = 512
"""Memory that remains for this computer, in addition to the machines' memory."""


def main(arguments: Sequence[str]) -> int:
    """Examine this computer and print what it lacks; the result is the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/doctor",
        description="What this computer lacks for each provider, and how to get it on this system.",
        epilog="Exit status: 0 when the provider can make a lab, 1 when something is missing.",
    )
    parser.add_argument("--provider", choices=PROVIDERS, help="default: that of a new lab")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    report = examine(options.provider or "")
    print(json.dumps(as_json(report), indent=2) if options.json else as_text(report))
    return 0 if report.ready else 1


def examine(provider: str = "") -> ComputerReport:
    """Collect the facts of this computer and judge them.

    Args:
        provider: the one that is asked about; empty for that of a new lab.
    """
    system = detect()
    home = virtual_machines.vagrant_home()
    machines = virtual_machines.collect(system)
    reports = (
        containers_report(system, containers.collect(system) if system.kind == "Linux" else None),
        *virtual_machine_reports(machines, home, host_os.free_mib(home)),
        incus.report(incus.collect(system)),
        ProviderReport("ssh", "machines that exist already", "--provider ssh"),
    )
    chosen, reason = provider, "from --provider"
    if not chosen:
        chosen, reason = choice.select(choice.detect())
        if chosen == "vagrant":
            chosen = choice.vagrants_provider()
    version = platform.python_version()
    return ComputerReport(system, version, tuple(common(system)), reports, chosen, reason)


def common(system: System) -> Iterator[PreflightProblem]:
    """What every provider needs and this computer lacks."""
    if importlib.util.find_spec("ensurepip") is None:
        program = "Python's module ensurepip"
        yield PreflightProblem(f"{program} is missing", how_to_install(program, system))
    if shutil.which("ssh") is None:
        yield PreflightProblem(
            "OpenSSH's client is not installed", how_to_install("ssh", system), fatal=False
        )
    free = host_os.free_mib(ROOT)
    if free < MIN_FREE_MIB:
        what = f"{free} MiB are free in {ROOT}, and .venv needs {MIN_FREE_MIB}"
        yield PreflightProblem(what, "free disk space")


MIN_FREE_MIB = 200
"""For .venv with all libraries, and the state of some labs."""


def containers_report(system: System, facts: ContainerFacts | None) -> ProviderReport:
    """The report on system containers.

    Args:
        facts: None on other systems than Linux.
    """
    problems: list[PreflightProblem]
    if facts is None:
        what = f"containers require Linux, and this is {system.kind}"
        problems = [PreflightProblem(what, "use the provider vagrant")]
    else:
        problems = [*containers.programs(facts), *containers.kernel(facts)]
        free = host_os.free_mib(CACHE)
        if free < containers.MIN_FREE_MIB:
            what = f"{free} MiB are free in {CACHE}, and a lab needs {containers.MIN_FREE_MIB}"
            hint = "free disk space, or store images elsewhere: LAB_CACHE=/other/folder"
            problems.append(PreflightProblem(what, hint))
    return ProviderReport("lxc", "system containers", "--provider lxc", tuple(problems))


def virtual_machine_reports(
    facts: VirtualMachineFacts, home: Path, free: int
) -> tuple[ProviderReport, ...]:
    """The reports on VirtualBox and libvirt.

    Args:
        home: Vagrant's, which contains the boxes.
        free: the disk space there, in MiB.
    """
    reports = []
    for name, judge in (
        ("virtualbox", virtual_machines.virtualbox),
        ("libvirt", virtual_machines.libvirt),
    ):
        problems = [
            *virtual_machines.programs(facts, name),
            *judge(facts),
            *virtual_machines.disk_space(home, free),
            *memory(host_os.available_memory_mib(facts.system.kind), DEFAULT_TOPOLOGY),
        ]
        if name == "libvirt" and facts.system.kind != "Linux":
            problems = list(judge(facts))
        machines = "virtual machines, with Vagrant"
        reports.append(ProviderReport(name, machines, "--provider vagrant", tuple(problems)))
    return tuple(reports)


def memory(available: int, topology: Path) -> Iterator[PreflightProblem]:
    """Whether the machines of a topology fit into the available memory, in MiB; 0 is unknown."""
    needed = sum(map(int, re.findall(r"(?m)^ +memory: *(\d+)", host_os.read_text(topology))))
    if available and available < needed + RESERVED_MIB:
        yield PreflightProblem(
            f"{available} MiB of memory are available, and the machines need {needed}",
            "close other programs",
            fatal=available < needed * 2 // 3,
        )
