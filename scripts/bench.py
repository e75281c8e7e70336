"""Benchmarks of scripts/bench; see there.

`floor LAB` measures the minimum for any tool over SSH, in its own process: Python's start, a
parallel Fabric login to all machines, one command on each.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.dont_write_bytecode = False

ROUNDS = 7


def floor(name: str) -> None:
    """Log in to all machines in parallel and run one command on each."""
    from fabric import Config, Connection

    config = ROOT / ".lab" / name / "ssh_config"
    hosts = [w.split()[1] for w in config.read_text().splitlines() if w.startswith("Host ")]
    settings = Config(runtime_ssh_path=str(config))

    def run_true(host: str) -> None:
        with Connection(host, config=settings) as connection:
            connection.run("true", hide=True, in_stream=False)

    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(run_true, hosts))


def seconds(argv: list[str], **environ: str) -> float:
    """The duration of a command; its output is shown only when it fails."""
    started = time.monotonic()
    result = subprocess.run(
        argv,
        cwd=ROOT,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.monotonic() - started
    if result.returncode != 0:
        sys.exit(
            f"{shlex.join(argv)} exited with {result.returncode}\n{result.stdout}{result.stderr}"
        )
    return took


def invoke(*words: str) -> list[str]:
    """The command line of a task."""
    from provision.setup import virtual_environment

    return [str(virtual_environment.program("invoke")), *words]


TOPOLOGIES = ("simple", "distributed", "secured", "scaled")

SETTLE = 20
"""Seconds after which a new lab is idle."""


@contextlib.contextmanager
def lab(name: str, topology: str = "") -> Iterator[list[str]]:
    """Yield the command that brings up a lab; remove the lab before and afterwards."""
    remove = invoke("lab.destroy", "--yes", "--lab", name)
    seconds(remove)
    network = os.environ.get("BENCH_NETWORK", "")
    options = ["--network", network] if network else []
    options += ["--topology", topology] if topology else []
    try:
        yield [str(ROOT / "scripts" / "up"), "--lab", name, *options]
    finally:
        seconds(remove)


def show(what: str, value: str, target: str = "") -> None:
    """Print one figure and its target."""
    print(f"{what:<62} {value:>12}{f'   (target {target})' if target else ''}", flush=True)


def from_nothing() -> float:
    """scripts/up without cached images."""
    with tempfile.TemporaryDirectory(prefix="lab-bench-", dir="/var/tmp") as cache:
        try:
            with lab("bench-zero") as up:
                return seconds(up, LAB_CACHE=cache)
        finally:
            words = ["rm", "-rf", "--one-file-system", *map(str, Path(cache).iterdir())]
            subprocess.run([*(["sudo", "-n"] if os.geteuid() else []), *words], check=False)


def no_change(name: str) -> tuple[float, float]:
    """Medians of a no-change lab.up and of the floor, measured alternately."""
    ups, floors = [], []
    for _ in range(ROUNDS):
        floors.append(seconds([sys.executable, __file__, "floor", name]))
        ups.append(seconds(invoke("lab.up", "--lab", name)))
    return statistics.median(ups), statistics.median(floors)


def plan_alone(name: str) -> float:
    """Median of lab.plan: gather and compare, without the checks."""
    plans = [seconds(invoke("lab.plan", "--lab", name)) for _ in range(ROUNDS)]
    return statistics.median(plans)


def round_trips(name: str) -> tuple[int, int]:
    """Most round trips to one machine: for convergence alone, and with the checks."""
    from provision.checks.observe import observe
    from provision.commands.base import open_session
    from provision.engine.converge import converge

    session = open_session(name)
    with session.fleet() as fleet:
        outcomes = converge(session.context, fleet)
        observe(session.context, fleet, session.provider.state(session.lab))
        total = max(host.round_trips for host in fleet.hosts.values())
    return max(outcome.round_trips for outcome in outcomes.values()), total


def memory(name: str) -> dict[str, float]:
    """Memory by machine in MB, as proportional set size (PSS, proc(5))."""
    from provision.commands.base import open_session
    from provision.engine.host import Host

    script = "cat /proc/[0-9]*/smaps_rollup 2>/dev/null | awk '/^Pss:/ {s += $2} END {print s}'"

    def read_pss(host: Host) -> float:
        return int(host.run("sh", "-c", script).stdout) / 1024

    with open_session(name).fleet() as fleet:
        return fleet.each(read_pss)


def topologies() -> None:
    """Boot time and idle memory of each topology."""
    for topology in TOPOLOGIES:
        with lab("bench-topology", topology) as up:
            took = seconds(up)
            time.sleep(SETTLE)
            used = memory("bench-topology")
        show(f"{topology}: from cached images", f"{took:.0f} s")
        for name, megabytes in used.items():
            show(f"{topology}: memory of {name} (PSS)", f"{megabytes:.0f} MB")
        show(f"{topology}: memory of its {len(used)} machines", f"{sum(used.values()):.0f} MB")


def packages_alone(name: str) -> float:
    """Seconds to install the packages of all machines by plain ssh, in parallel."""
    from provision.commands.base import open_session
    from provision.core import apt_source as aptsource

    session = open_session(name)
    config = str(session.lab.directory / "ssh_config")

    def install(machine: str) -> None:
        packages = session.context.packages(session.lab.machine(machine))
        lines = ["set -e", "export DEBIAN_FRONTEND=noninteractive"]
        lines += ["printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d"]
        lines += ["chmod 755 /usr/sbin/policy-rc.d"]
        if packages.sid:
            mirror = "$(sed -n 's/^URIs: //p' /etc/apt/sources.list.d/debian.sources)"
            source = shlex.quote(aptsource.sid_list("@MIRROR@"))
            lines += [f'printf %s {source} | sed "s,@MIRROR@,{mirror}," > {aptsource.SID_LIST}']
            pins = shlex.quote(aptsource.sid_preferences(packages.sid))
            lines += [f"printf %s {pins} > {aptsource.SID_PREFERENCES}"]
        names = shlex.join([*packages.packages, *packages.sid])
        lines += ["apt-get -qq update", f"apt-get -qqy install --no-install-recommends {names}"]
        argv = ["ssh", "-F", config, machine, "sudo sh -s"]
        subprocess.run(argv, input="\n".join(lines), text=True, check=True, capture_output=True)

    started = time.monotonic()
    with ThreadPoolExecutor(len(session.lab.machines)) as pool:
        list(pool.map(install, [m.name for m in session.lab.machines]))
    return time.monotonic() - started


def bare(name: str, up: list[str]) -> None:
    """Boot the machines of a lab without configuring them."""
    subprocess.run(
        [sys.executable, __file__, "bare", name, *up[3:]],
        cwd=ROOT,
        env={**os.environ, "LAB_LAYERS": "0"},
        check=True,
        capture_output=True,
    )


def bring_up(name: str, network: str) -> None:
    """Boot unconfigured machines, in its own process."""
    from provision import providers
    from provision.core.package_set import PackageSet
    from provision.core.ssh_config import write_ssh_config
    from provision.topology import labs
    from provision.topology.record import record_lab

    here, recorded = labs.open_lab(name, network=network or None)
    source, _ = providers.choose("", recorded)
    record_lab(here, source.name)
    nothing = {machine.name: PackageSet() for machine in here.machines}
    ends = source.up(here, lambda machine, doing: None, nothing)
    write_ssh_config(here, ends)


def plain() -> tuple[float, float]:
    """Without layers: seconds of a full convergence, and of its packages alone."""
    with lab("bench-plain") as up:
        bare("bench-plain", up)
        alone = packages_alone("bench-plain")
    with lab("bench-plain") as up:
        bare("bench-plain", up)
        whole = seconds(up, LAB_LAYERS="0")
    return whole, alone


def main() -> None:
    """Measure and print the figures."""
    if sys.argv[1:2] == ["floor"]:
        floor(sys.argv[2])
        return
    if sys.argv[1:2] == ["bare"]:
        bring_up(sys.argv[2], sys.argv[4] if len(sys.argv) > 4 else "")
        return
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("--nothing", action="store_true", help="also without cached images")
    parser.add_argument("--plain", action="store_true", help="also without layers")
    parser.add_argument("--topology", "--stage", default="", help="the topology to measure")
    parser.add_argument(
        "--topologies", "--stages", action="store_true", help="instead: boot and memory of each"
    )
    options = parser.parse_args()
    if options.topologies:
        topologies()
        return
    measure: list[Callable[[], None]] = []
    if options.nothing:
        measure.append(lambda: show("scripts/up from nothing", f"{from_nothing():.0f} s"))
    measure.append(lambda: cached(options.topology))
    if options.plain:
        measure.append(converged)
    for print_figures in measure:
        print_figures()


def cached(topology: str) -> None:
    """Print the figures of one lab from cached images."""
    with lab("bench", topology) as up:
        first = seconds(up)  # builds missing images
        seconds(invoke("lab.destroy", "--yes", "--lab", "bench"))
        first = seconds(up)
        show("scripts/up from cached images", f"{first:.1f} s")
        unchanged, minimum = no_change("bench")
        show("lab.up that changes nothing", f"{unchanged:.2f} s")
        show("the floor", f"{minimum:.2f} s")
        show("lab.up that changes nothing ÷ the floor", f"{unchanged / minimum:.2f}", "2")
        show("lab.plan ÷ the floor", f"{plan_alone('bench') / minimum:.2f}")
        convergence, total = round_trips("bench")
        show("SSH round trips per machine without changes", str(convergence))
        show("the same including the checks", str(total), "3")
        used = memory("bench")
        for name, megabytes in used.items():
            show(f"memory of {name} (PSS)", f"{megabytes:.0f} MB")
        show("memory of the lab (PSS)", f"{sum(used.values()):.0f} MB")


def converged() -> None:
    """Print the figures of a first convergence without layers."""
    whole, alone = plain()
    show("first convergence without layers", f"{whole:.0f} s")
    show("its packages alone by plain ssh", f"{alone:.0f} s")
    show("first convergence ÷ its packages alone", f"{whole / alone:.2f}", "1.2")


if __name__ == "__main__":
    if not shutil.which("ssh"):
        sys.exit("error: there is no ssh on this computer\nnext: scripts/test installs it")
    main()
