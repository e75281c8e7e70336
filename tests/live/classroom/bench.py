"""scripts/bench --class: what a class of N labs needs, and the limits that it comes near."""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import requests

from provision import topology
from provision.classroom import capacity
from provision.classroom.capacity import Room
from provision.core import classroom
from provision.core.lab import ROOT
from provision.core.limits import Limits
from provision.operations.session import open_session
from provision.providers.lxc import paths, sysctls
from provision.providers.lxc.paths import LabPaths
from provision.setup import virtual_environment
from provision.setup.host_os import free_mib

PREFIX = "bench-"
COUNTS = "1,2,4,8"
SETTLE = 20.0
IDLE_SECONDS = 20.0
REQUESTS = 50


@dataclasses.dataclass(frozen=True)
class Figures:
    """What was measured with some labs.

    Args:
        memory: PSS of all their processes, in MiB.
        processor: of one core, in percent, while nobody uses the labs.
        latency: of a page through the balancer, in seconds: median, and the slowest of all.
        used: of each resource that labs share.
    """

    labs: int
    seconds: float
    memory: float
    processor: float
    latency: tuple[float, float]
    used: dict[str, int]


def invoke(*words: str) -> float:
    """Run a task; returns how long it took."""
    started = time.monotonic()
    argv = [str(virtual_environment.program("invoke")), *words]
    result = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        output = f"{result.stdout}{result.stderr}"
        sys.exit(f"{' '.join(words)} exited with {result.returncode}\n{output}")
    return time.monotonic() - started


def read_room() -> Room:
    """What is free on this host."""
    return capacity.read_room(free_mib(paths.HOST), sysctls.MINIMUM)


def groups() -> list[Path]:
    """The control groups of the class's labs, of one hierarchy."""
    top = Path("/sys/fs/cgroup")
    base = top / "cpuacct" if (top / "cpuacct").exists() else top
    teams = classroom.require().teams
    return [base / LabPaths.of(open_session(team.lab).lab).lab_cgroup for team in teams]


def memory_mib(folders: Iterable[Path]) -> float:
    """The proportional set size of all processes (proc(5), smaps_rollup)."""
    files = (file for folder in folders for file in folder.rglob("cgroup.procs"))
    total = 0
    for pid in {pid for file in files for pid in file.read_text().split()}:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it has ended
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def processor_seconds(folders: Iterable[Path]) -> float:
    """Processor time that control groups have used (cgroup v1 or v2)."""
    total = 0.0
    for folder in folders:
        usage = folder / "cpuacct.usage"
        if usage.exists():
            total += int(usage.read_text()) / 1e9
        else:
            total += int((folder / "cpu.stat").read_text().split()[1]) / 1e6
    return total


def latencies() -> list[float]:
    """Seconds of some pages of every lab, one after the other."""
    took = []
    for team in classroom.require().teams:
        lab = open_session(team.lab).lab
        with requests.Session() as http:
            http.trust_env = False
            http.verify = str(lab.directory / "ca.pem") if lab.topology.https else True
            for _ in range(REQUESTS):
                started = time.monotonic()
                http.get(f"{lab.url}/", timeout=10).raise_for_status()
                took.append(time.monotonic() - started)
    return took


def measure(count: int, options: list[str], before: Room) -> Figures:
    """Bring up a class of this size, and measure."""
    seconds = invoke("class.up", str(count), "--prefix", PREFIX, *options)
    time.sleep(SETTLE)
    folders = groups()
    used = processor_seconds(folders)
    time.sleep(IDLE_SECONDS)
    processor = (processor_seconds(folders) - used) / IDLE_SECONDS * 100
    took = latencies()
    latency = (statistics.median(took), max(took))
    memory = memory_mib(folders)
    return Figures(count, seconds, memory, processor, latency, difference(before, read_room()))


def difference(before: Room, after: Room) -> dict[str, int]:
    """How much less of each resource is free."""
    used = {}
    for field in dataclasses.fields(Room):
        first, second = getattr(before, field.name), getattr(after, field.name)
        if first is not None and second is not None:
            used[field.name] = first - second
    return used


def show(figures: Figures, before: Room) -> None:
    """Print the figures of one class."""
    n = figures.labs
    print(
        f"{n:>3} labs  up {figures.seconds:5.0f} s ({figures.seconds / n:4.1f} s each)"
        f"   memory {figures.memory:5.0f} MiB ({figures.memory / n:4.0f} each)"
        f"   idle {figures.processor:4.1f} % of a core ({figures.processor / n:3.1f} each)"
        f"   page {figures.latency[0] * 1000:3.0f} ms (slowest {figures.latency[1] * 1000:3.0f})"
    )
    parts = [
        f"{name.replace('_', ' ')} {used} of {getattr(before, name)}"
        for name, used in figures.used.items()
    ]
    print(f"          used: {', '.join(parts)}", flush=True)


def main() -> None:
    """Measure classes of several sizes, and remove them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", default=COUNTS)
    parser.add_argument("--topology", default="distributed")
    parser.add_argument("--network", default="")
    options = parser.parse_args()
    if classroom.load() is not None:
        sys.exit("this checkout has a class: invoke class.destroy --yes")
    words = ["--topology", options.topology]
    words += ["--network", options.network] if options.network else []
    loaded = topology.load(topology.find(options.topology))
    before = read_room()
    needs = capacity.resources(loaded, Limits(), before)
    fits = min((need.fits for need in needs if need.fits is not None), default=0)
    print(f"topology {options.topology}: this host has room for {fits} labs")
    try:
        for count in map(int, options.counts.split(",")):
            if count > fits:
                short = ", ".join(n.name for n in needs if n.fits is not None and n.fits < count)
                print(f"{count:>3} labs  not measured: not enough {short}")
                continue
            show(measure(count, words, before), before)
            invoke("class.destroy", "--yes")
    finally:
        if classroom.load() is not None:
            invoke("class.destroy", "--yes")


if __name__ == "__main__":
    main()
