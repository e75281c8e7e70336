"""scripts/doctor: what it says on each system, on emulations of computers."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision.core.lab import ROOT, Lab, Machine, Topology
from provision.setup import (
    choice,
    containers,
    doctor,
    host_os,
    incus,
    incus_server,
    install,
    packages,
    privileges,
)
from provision.setup.containers import ContainerFacts
from provision.setup.problem import PreflightProblem
from provision.setup.report import ComputerReport, as_json, as_text
from provision.setup.system import SYSTEMS, System
from provision.setup.virtual_machines import VirtualMachineFacts
from tests import json_schema
from tests.unit.setup import samples
from tests.unit.windows.test_controller import on_windows

ALL = list(samples.SYSTEMS)
INCUS = ("LAB_INCUS", "INCUS_SOCKET", "INCUS_CONF")


@dataclass
class Computer:
    """An emulated computer: what its programs print, and what is installed."""

    system: System
    programs: dict[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    free_mib: int = 50000
    memory_mib: int = 16000

    def which(self, name: str, path: str | None = None) -> str | None:
        return f"/usr/bin/{name}" if name in self.programs else None

    def output_of(self, argv: Sequence[str]) -> str:
        line = " ".join(map(str, argv))
        known = {f"{name} --version": text for name, text in self.programs.items()}
        return {**known, **self.outputs}.get(line.removeprefix("/usr/bin/"), "")

    def read_text(self, path: Path) -> str:
        return path.read_text() if path.is_relative_to(ROOT) else ""  # nothing of /proc


Examine = Callable[[Computer], ComputerReport]


@pytest.fixture
def examine(monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Run the doctor on an emulated computer; nothing of this one is used."""

    def on(computer: Computer) -> ComputerReport:
        names = {name: platform for platform, name in SYSTEMS.items()}
        monkeypatch.setattr(sys, "platform", names[computer.system.kind])
        for name in ("LAB_PROVIDER", "VAGRANT_DEFAULT_PROVIDER", "LAB_QEMU", *INCUS):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(doctor, "detect", lambda: computer.system)
        for module in (choice, doctor, privileges):
            monkeypatch.setattr(module.shutil, "which", computer.which)
        monkeypatch.setattr(host_os, "output_of", computer.output_of)
        monkeypatch.setattr(host_os, "read_text", computer.read_text)
        monkeypatch.setattr(host_os, "free_mib", lambda path: computer.free_mib)
        monkeypatch.setattr(host_os, "available_memory_mib", lambda kind: computer.memory_mib)
        monkeypatch.setattr(choice, "kvm_works", lambda: "kvm" in computer.programs)
        monkeypatch.setattr(choice, "has_libvirt_plugin", lambda: "plugin" in computer.programs)
        monkeypatch.setattr(choice, "LIBVIRT_SOCKETS", ())
        for module in (incus, incus_server):
            monkeypatch.setattr(module, "SOCKETS", (Path("/nowhere/unix.socket"),))
        monkeypatch.setattr(containers, "missing_kernel_features", lambda: ())
        monkeypatch.setattr(containers, "KEYRING", str(ROOT))
        return doctor.examine()

    return on


def on(name: str, *programs: str, **outputs: str) -> Computer:
    versions = {"vagrant": "Vagrant 2.4.9", "VBoxManage": "7.2.4r170995"}
    return Computer(samples.SYSTEMS[name], {p: versions.get(p, "") for p in programs}, outputs)


def problems(report: ComputerReport, provider: str) -> list[PreflightProblem]:
    return list(next(p for p in report.providers if p.name == provider).problems)


def hints(report: ComputerReport, provider: str) -> str:
    return "\n".join(problem.hint for problem in problems(report, provider))


# --- an empty computer of each kind --------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_every_provider_is_reported_on_every_system_with_a_fix_for_each_problem(
    examine: Examine, name: str
) -> None:
    report = examine(on(name))
    assert [p.name for p in report.providers] == ["lxc", "virtualbox", "libvirt", "incus", "ssh"]
    for provider in report.providers:
        assert all(problem.hint for problem in provider.problems)
    assert not report.ready
    assert problems(report, "virtualbox")
    text = as_text(report)
    assert text.startswith(f"{report.system.name}, {report.system.arch}, Python 3.")
    value = json.loads(json.dumps(as_json(report)))
    assert list(json_schema.validate(value, json_schema.load("doctor.schema"))) == []
    assert value["next"] in text


@pytest.mark.parametrize(
    ("name", "vagrant", "virtualbox"),
    [
        ("Debian 12", "sudo apt-get install vagrant", "virtualbox.org"),
        ("Debian 13", "sudo apt-get install vagrant", "not in Debian stable"),
        ("Ubuntu 24.04", "developer.hashicorp.com", "sudo apt-get install virtualbox (multiverse)"),
        ("Fedora 41", "sudo dnf install vagrant", "virtualbox.org"),
        ("Arch", "developer.hashicorp.com", "virtualbox.org"),
        ("macOS Intel", "brew install --cask hashicorp", "brew install --cask virtualbox"),
        ("Apple silicon", "brew install --cask hashicorp", "brew install --cask virtualbox"),
        ("Windows 10", "winget install Hashicorp.Vagrant", "winget install Oracle.VirtualBox"),
        ("Windows 11", "winget install Hashicorp.Vagrant", "winget install Oracle.VirtualBox"),
    ],
)
def test_vagrant_and_virtualbox_are_installed_in_the_way_of_the_system(
    examine: Examine, name: str, vagrant: str, virtualbox: str
) -> None:
    missing = problems(examine(on(name)), "virtualbox")
    assert [p.what for p in missing[:2]] == [
        "Vagrant is not installed",
        "VirtualBox is not installed",
    ]
    assert vagrant in missing[0].hint
    assert virtualbox in missing[1].hint


@pytest.mark.parametrize("name", ALL)
def test_no_fix_uses_the_package_manager_of_another_system(examine: Examine, name: str) -> None:
    report = examine(on(name))
    managers = {"debian": "apt-get", "ubuntu": "apt-get", "fedora": "dnf"}
    own = managers.get(report.system.family, "")
    own = {"macOS": "brew", "Windows": "winget"}.get(report.system.kind, own)
    for problem in (*report.common, *(p for r in report.providers for p in r.problems)):
        for manager in {"apt-get", "dnf", "brew", "winget"} - {own}:
            assert manager not in problem.hint, problem


@pytest.mark.parametrize("program", install.names())
def test_everything_can_be_installed_on_every_system(program: str) -> None:
    for system in samples.SYSTEMS.values():
        assert install.how_to_install(program, system)


# --- computers that can make a lab ----------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["Debian 13", "Ubuntu 24.04", "macOS Intel", "Apple silicon", "Windows 10"]
)
def test_a_computer_with_vagrant_and_virtualbox_is_ready(
    examine: Examine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    computer = on(name, "vagrant", "VBoxManage", "ssh")
    monkeypatch.setattr("pathlib.Path.exists", lambda path: True)  # /dev/vboxdrv, on Linux
    monkeypatch.setattr(host_os, "virtualization", lambda kind: True)
    report = examine(computer)
    assert problems(report, "virtualbox") == []
    assert (report.provider, report.ready) == ("virtualbox", True)
    command = "scripts\\up.cmd" if report.system.kind == "Windows" else "scripts/up"
    assert report.next_step == f"{command} --provider vagrant"


def test_debian_with_the_packages_of_scripts_up_runs_containers(examine: Examine) -> None:
    computer = on("Debian 13", *packages.CONTAINER_PROGRAMS, "ssh", "sudo")
    report = examine(computer)
    assert problems(report, "lxc") == []
    assert (report.provider, report.ready) == ("lxc", True)
    del computer.programs["nft"]
    report = examine(computer)
    assert not report.ready
    assert "apt-get install --no-install-recommends nftables" in report.next_step


def test_other_distributions_are_sent_to_virtual_machines(examine: Examine) -> None:
    assert "--provider vagrant" in problems(examine(on("Fedora 41")), "lxc")[0].hint
    assert "require Linux" in problems(examine(on("Apple silicon")), "lxc")[0].what


@pytest.mark.parametrize(
    ("name", "version", "words"),
    [
        ("Apple silicon", "7.0.20", "install VirtualBox 7.1.6 or newer"),
        ("Apple silicon", "7.1.6", ""),
        ("Windows 11 on arm64", "7.1.6", "install VirtualBox 7.2 or newer"),
        ("Windows 11 on arm64", "7.2.4", ""),
    ],
)
def test_arm64_needs_a_virtualbox_that_runs_there(
    examine: Examine, name: str, version: str, words: str
) -> None:
    computer = on(name, "vagrant", "VBoxManage", "ssh")
    computer.programs["VBoxManage"] = version
    found = hints(examine(computer), "virtualbox")
    assert (words in found) if words else not found


def test_there_is_no_virtualbox_for_linux_on_arm64(examine: Examine) -> None:
    what = [p.what for p in problems(examine(on("Debian 13 on arm64")), "virtualbox")]
    assert "there is no VirtualBox for Linux on arm64" in what
    assert "VirtualBox is not installed" not in what


def test_hyper_v_is_a_note_and_disabled_virtualization_an_error(examine: Examine) -> None:
    query = "powershell -NoProfile -Command (Get-CimInstance Win32_{} | Select-Object -First 1).{}"
    computer = on("Windows 11", "vagrant", "VBoxManage", "ssh")
    computer.outputs = {query.format("ComputerSystem", "HypervisorPresent"): "True\n"}
    (note,) = problems(examine(computer), "virtualbox")
    assert "Hyper-V is active" in note.what
    assert not note.fatal
    computer.outputs = {query.format("Processor", "VirtualizationFirmwareEnabled"): "False\n"}
    report = examine(computer)
    assert "virtualization (VT-x, AMD-V) is disabled" in problems(report, "virtualbox")[0].what
    assert not report.ready


def test_libvirt_needs_its_plugin_qemu_and_a_running_daemon(examine: Examine) -> None:
    what = [p.what for p in problems(examine(on("Debian 13", "vagrant")), "libvirt")]
    assert what[:3] == [
        "Vagrant's plugin for libvirt is not installed",
        "QEMU for x86_64 is not installed",
        "libvirt is not running, or you have no permission to use it",
    ]
    arm = examine(on("Debian 13 on arm64", "vagrant", "qemu-system-aarch64", "plugin"))
    assert [p.what for p in problems(arm, "libvirt")][:1] == what[2:3]
    assert "usermod -aG libvirt" in hints(examine(on("Fedora 41", "vagrant")), "libvirt")


def test_memory_and_disk_space(examine: Examine) -> None:
    computer = on("macOS Intel", "vagrant", "VBoxManage", "ssh")
    computer = replace(computer, memory_mib=2560 + 500)
    (note,) = problems(examine(computer), "virtualbox")
    assert "3060 MiB of memory are available, and the machines need 2560" in note.what
    assert not note.fatal
    assert not examine(replace(computer, memory_mib=1000)).ready
    full = examine(replace(computer, memory_mib=0, free_mib=100))
    assert "100 MiB are free" in problems(full, "virtualbox")[0].what
    assert any("and .venv needs" in problem.what for problem in full.common)


def test_what_every_provider_needs(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    report = examine(on("Windows 10", "vagrant", "VBoxManage"))
    assert [(p.what, p.fatal) for p in report.common] == [
        ("Python's module ensurepip is missing", True),
        ("OpenSSH's client is not installed", False),
    ]
    assert "OpenSSH.Client" in report.common[1].hint
    assert not report.ready
    assert "every provider:\n  missing: Python's module" in as_text(report)


# --- the same facts as lab.doctor -----------------------------------------------------------------


def test_lab_doctor_says_the_same_of_the_same_computer(
    examine: Examine,
) -> None:
    """The preflight checks of the providers contain everything that scripts/doctor says."""
    from provision.providers.lxc import preflight as lxc
    from provision.providers.lxc.host_facts import LxcHostFacts
    from provision.providers.vagrant import preflight as vagrant
    from provision.providers.vagrant.host_facts import VagrantHostFacts

    machine = Machine("web-01", IPv4Network("192.168.56.0/24")[11], ("nginx",))
    network = IPv4Network("192.168.56.0/24")
    lab = Lab("default", Path("/checkout"), Topology("t", "foobar.com", network, (machine,)))
    for name in ("Debian 12", "Ubuntu 24.04", "Windows 10", "Apple silicon"):
        system = samples.SYSTEMS[name]
        report = examine(on(name))
        facts = VirtualMachineFacts(
            system, vagrant="", virtualbox="", driver=False, virtualization=None,
            plugin=False, libvirt=False, kvm=False, emulator=False,
        )  # fmt: skip
        for provider in ("virtualbox", "libvirt"):
            told = vagrant.problems(lab, VagrantHostFacts(**vars(facts), provider=provider))
            assert set(problems(report, provider)) <= set(told), (name, provider)
    missing = ContainerFacts(
        missing_programs=tuple(packages.CONTAINER_PROGRAMS), root=True, sudo=True
    )
    report = examine(on("Debian 13"))
    told = lxc.problems(lab, LxcHostFacts(**vars(missing)))
    assert set(problems(report, "lxc")) <= set(told)


# --- the program ----------------------------------------------------------------------------------


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """scripts/doctor without any library: -S leaves out the folders of installed packages."""
    return subprocess.run(
        ["/usr/bin/env", "python3", "-I", "-S", ROOT / "scripts" / "run.py", "doctor", *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, **environ},
    )  # fmt: skip


def test_it_needs_the_standard_library_only() -> None:
    result = run("--json")
    value = json.loads(result.stdout)
    assert list(json_schema.validate(value, json_schema.load("doctor.schema"))) == []
    assert result.returncode == (0 if value["ready"] else 1)
    assert value["system"]["architecture"] == platform.machine()
    assert result.stderr == ""


def test_exit_statuses() -> None:
    assert run("--provider", "ssh").returncode == 0
    assert run("--provider", "vmware").returncode == 2
    assert run("--jsn").returncode == 2
    empty = run("--provider", "virtualbox", PATH="/nowhere")
    assert empty.returncode in (1, 127)


def test_it_runs_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMULATED_PROGRAMS_ARE_MISSING", "1")
    code = """
import sys
from provision.setup.main import main
sys.exit(main(["doctor"]))
"""
    result = on_windows(code, tmp_path, ok=False)
    assert result.returncode == 1, result.stderr
    assert result.stdout.startswith("Windows 10 (build 0), x86_64, Python 3.")
    assert "lxc (system containers): not ready" in result.stdout
    assert "fix: winget install Oracle.VirtualBox" in result.stdout
    assert "next: " in result.stdout
