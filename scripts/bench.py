"""The figures of scripts/bench; see there.

`floor LAB` is the least that any tool over SSH can need, measured as a process of its own: Python's
start, a Fabric login to all machines at once, one command on each.
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
    """Log in everywhere, run one command each, and nothing else."""
    from fabric import Config, Connection

    config = ROOT / ".lab" / name / "ssh_config"
    hosts = [w.split()[1] for w in config.read_text().splitlines() if w.startswith("Host ")]
    settings = Config(runtime_ssh_path=str(config))

    def one(host: str) -> None:
        with Connection(host, config=settings) as connection:
            connection.run("true", hide=True, in_stream=False)

    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(one, hosts))


def seconds(argv: list[str], **environ: str) -> float:
    """How long a command takes; its output is shown only when it fails."""
    started = time.monotonic()
    done = subprocess.run(
        argv,
        cwd=ROOT,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.monotonic() - started
    if done.returncode != 0:
        sys.exit(f"{shlex.join(argv)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return took


def invoke(*words: str) -> list[str]:
    """A task's command line."""
    return [str(ROOT / ".venv" / "bin" / "invoke"), *words]


STAGES = ("simple", "distributed", "secured", "scaled")
"""The designs, as a class walks through them."""

SETTLE = 20
"""Seconds after which a lab that has come up is as idle as it gets."""


@contextlib.contextmanager
def lab(name: str, stage: str = "") -> Iterator[list[str]]:
    """A lab of ours, removed before and afterwards; yields the command that brings it up.

    Args:
        name: of the lab.
        stage: its topology, when it is not the usual one.
    """
    remove = invoke("lab.destroy", "--yes", "--lab", name)
    seconds(remove)
    network = os.environ.get("BENCH_NETWORK", "")
    place = ["--network", network] if network else []
    place += ["--topology", stage] if stage else []
    try:
        yield [str(ROOT / "scripts" / "up"), "--lab", name, *place]
    finally:
        seconds(remove)


def show(what: str, value: str, aim: str = "") -> None:
    """Print one figure, and what it should be."""
    print(f"{what:<62} {value:>12}{f'   (aim {aim})' if aim else ''}", flush=True)


# --- figures -------------------------------------------------------------------------------------


def from_nothing() -> float:
    """scripts/up with no image at hand."""
    with tempfile.TemporaryDirectory(prefix="lab-bench-", dir="/var/tmp") as cache:
        try:
            with lab("bench-zero") as up:
                return seconds(up, LAB_CACHE=cache)
        finally:
            words = ["rm", "-rf", "--one-file-system", *map(str, Path(cache).iterdir())]
            subprocess.run([*(["sudo", "-n"] if os.geteuid() else []), *words], check=False)


def no_change(name: str) -> tuple[float, float]:
    """Medians of a lab.up that changes nothing and of the floor, measured in turns."""
    ups, floors = [], []
    for _ in range(ROUNDS):
        floors.append(seconds([sys.executable, __file__, "floor", name]))
        ups.append(seconds(invoke("lab.up", "--lab", name)))
    return statistics.median(ups), statistics.median(floors)


def plan_alone(name: str) -> float:
    """Median of a lab.plan: the machines' state and its comparison, without the checks."""
    plans = [seconds(invoke("lab.plan", "--lab", name)) for _ in range(ROUNDS)]
    return statistics.median(plans)


def round_trips(name: str) -> tuple[int, int]:
    """The most requests a machine answers: while nothing changes, and with the checks."""
    from provision.checks.observe import observe
    from provision.commands.base import session
    from provision.engine.converge import converge

    now = session(name)
    with now.fleet() as fleet:
        outcomes = converge(now.context, fleet)
        observe(now.context, fleet, now.provider.state(now.lab))
        every = max(host.round_trips for host in fleet.hosts.values())
    return max(outcome.round_trips for outcome in outcomes.values()), every


def memory(name: str) -> dict[str, float]:
    """MB of each machine's processes, shared pages counted in parts (PSS, proc(5))."""
    from provision.commands.base import session
    from provision.engine.host import Host

    script = "cat /proc/[0-9]*/smaps_rollup 2>/dev/null | awk '/^Pss:/ {s += $2} END {print s}'"

    def one(host: Host) -> float:
        return int(host.run("sh", "-c", script).out) / 1024

    with session(name).fleet() as fleet:
        return fleet.each(one)


def stages() -> None:
    """What each design takes: boot, and memory by machine once it is idle."""
    for topology in STAGES:
        with lab("bench-stage", topology) as up:
            took = seconds(up)
            time.sleep(SETTLE)
            used = memory("bench-stage")
        show(f"{topology}: from cached images", f"{took:.0f} s")
        for name, megabytes in used.items():
            show(f"{topology}: memory of {name} (PSS)", f"{megabytes:.0f} MB")
        show(f"{topology}: memory of its {len(used)} machines", f"{sum(used.values()):.0f} MB")


def packages_alone(name: str) -> float:
    """Every machine's packages by plain ssh, all machines at once."""
    from provision import registry as roles
    from provision.commands.base import session
    from provision.core import apt_source as aptsource

    now = session(name)
    config = str(now.lab.directory / "ssh_config")

    def one(machine: str) -> None:
        wanted = roles.packages(now.context, now.lab.machine(machine))
        lines = ["set -e", "export DEBIAN_FRONTEND=noninteractive"]
        lines += ["printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d"]
        lines += ["chmod 755 /usr/sbin/policy-rc.d"]
        if wanted.sid:
            mirror = "$(sed -n 's/^URIs: //p' /etc/apt/sources.list.d/debian.sources)"
            source = shlex.quote(aptsource.sid_list("@MIRROR@"))
            lines += [f'printf %s {source} | sed "s,@MIRROR@,{mirror}," > {aptsource.SID_LIST}']
            pins = shlex.quote(aptsource.sid_preferences(wanted.sid))
            lines += [f"printf %s {pins} > {aptsource.SID_PREFERENCES}"]
        names = shlex.join([*wanted.packages, *wanted.sid])
        lines += ["apt-get -qq update", f"apt-get -qqy install --no-install-recommends {names}"]
        argv = ["ssh", "-F", config, machine, "sudo sh -s"]
        subprocess.run(argv, input="\n".join(lines), text=True, check=True, capture_output=True)

    started = time.monotonic()
    with ThreadPoolExecutor(len(now.lab.machines)) as pool:
        list(pool.map(one, [m.name for m in now.lab.machines]))
    return time.monotonic() - started


def bare(name: str, up: list[str]) -> None:
    """Bring the machines of a lab up and no further."""
    subprocess.run(
        [sys.executable, __file__, "bare", name, *up[3:]],
        cwd=ROOT,
        env={**os.environ, "LAB_LAYERS": "0"},
        check=True,
        capture_output=True,
    )


def bring_up(name: str, network: str) -> None:
    """In a process of its own: machines without any configuration."""
    from provision import providers
    from provision.core.package_set import PackageSet
    from provision.topology import labs

    here, recorded = labs.open_lab(name, network=network or None)
    source, _ = providers.choose("", recorded)
    labs.record(here, source.name)
    nothing = {machine.name: PackageSet() for machine in here.machines}
    ends = source.up(here, lambda machine, doing: None, nothing)
    labs.write_access(here, ends)


def plain() -> tuple[float, float]:
    """Without layers: the whole convergence of bare machines, and their packages alone."""
    with lab("bench-plain") as up:
        bare("bench-plain", up)
        alone = packages_alone("bench-plain")
    with lab("bench-plain") as up:
        bare("bench-plain", up)
        whole = seconds(up, LAB_LAYERS="0")
    return whole, alone


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["floor"]:
        floor(sys.argv[2])
        return
    if sys.argv[1:2] == ["bare"]:
        bring_up(sys.argv[2], sys.argv[4] if len(sys.argv) > 4 else "")
        return
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("--nothing", action="store_true", help="also from nothing")
    parser.add_argument("--plain", action="store_true", help="also without layers")
    parser.add_argument("--stage", default="", help="the topology that is measured")
    parser.add_argument("--stages", action="store_true", help="instead: memory of each design")
    options = parser.parse_args()
    if options.stages:
        stages()
        return
    measure: list[Callable[[], None]] = []
    if options.nothing:
        measure.append(lambda: show("scripts/up from nothing", f"{from_nothing():.0f} s"))
    measure.append(lambda: cached(options.stage))
    if options.plain:
        measure.append(converged)
    for one in measure:
        one()


def cached(stage: str) -> None:
    """Everything that one lab from cached images can tell; ``stage``: its topology, if another."""
    with lab("bench", stage) as up:
        first = seconds(up)  # builds what is not cached yet
        seconds(invoke("lab.destroy", "--yes", "--lab", "bench"))
        first = seconds(up)
        show("scripts/up from cached images", f"{first:.1f} s")
        again, least = no_change("bench")
        show("lab.up that changes nothing", f"{again:.2f} s")
        show("the floor", f"{least:.2f} s")
        show("lab.up that changes nothing ÷ the floor", f"{again / least:.2f}", "2")
        show("lab.plan ÷ the floor", f"{plan_alone('bench') / least:.2f}")
        converging, every = round_trips("bench")
        show("SSH round trips a machine while nothing changes", str(converging))
        show("the same with the checks that lab.up ends with", str(every), "3")
        used = memory("bench")
        for name, megabytes in used.items():
            show(f"memory of {name} (PSS)", f"{megabytes:.0f} MB")
        show("memory of the lab (PSS)", f"{sum(used.values()):.0f} MB")


def converged() -> None:
    """The first convergence without layers."""
    whole, alone = plain()
    show("first convergence without layers", f"{whole:.0f} s")
    show("its packages alone by plain ssh", f"{alone:.0f} s")
    show("first convergence ÷ its packages alone", f"{whole / alone:.2f}", "1.2")


if __name__ == "__main__":
    if not shutil.which("ssh"):
        sys.exit("error: there is no ssh on this computer\nnext: scripts/test installs it")
    main()
