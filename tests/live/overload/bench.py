"""`scripts/bench overload`: what users get when more requests arrive than the site can serve."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import ssl
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from uuid import uuid4

from provision.core.capacity import server_slots
from provision.core.lab import ROOT
from provision.services.haproxy.runtime import run_commands
from provision.services.haproxy.statistics import server_rows
from tests.live.conftest import RunningLab
from tests.live.overload import load
from tests.live.overload.cores import separate_cores
from tests.live.overload.load import STATIC, Load, Outcome

TOPOLOGIES = ("distributed", "secured", "scaled")
FACTORS = (1, 2, 5)
SECONDS = 60.0
CAPACITY_SECONDS = 10.0
AFTER_SECONDS = 8.0
AFTER_RATE = 20.0
"""Requests per second after the load."""
AIM_GOODPUT, AIM_RECOVERY = 0.8, 5.0
REFUSED = "503 with Retry-After"


@dataclass(frozen=True)
class Result:
    """What one run has shown.

    Args:
        capacity: good responses per second of the application, clients waiting for each other.
        goodput: the same by factor of the capacity, under open-loop load.
        failures: errors by kind; see `load.errors`.
        static: requests for static files, and how many of them failed.
        downs: servers marked DOWN, without the one that was killed.
        recovery: seconds after the end of the load.
        acknowledged: writes, and how many of them no database has.
    """

    capacity: float
    goodput: dict[int, float]
    failures: Counter[str]
    static: tuple[int, int]
    downs: int
    recovery: float
    acknowledged: tuple[int, int]

    @property
    def ratio(self) -> float:
        """The goodput under the greatest load, as a share of the best."""
        return self.goodput[FACTORS[-1]] / max(*self.goodput.values(), self.capacity, 0.001)

    @property
    def unexpected(self) -> int:
        """Errors that are no honest refusal."""
        return sum(n for name, n in self.failures.items() if not name.endswith(REFUSED))


def downs(lab: RunningLab, without: str = "") -> int:
    """How often servers went DOWN on all balancers, since HAProxy started."""
    session = lab.session()
    total = 0
    with session.fleet() as fleet:
        for machine in session.lab.with_role("haproxy"):
            (text,) = run_commands(fleet.host(machine.name), "show stat")
            rows = server_rows(text).items()
            total += sum(int(row["chkdown"] or 0) for name, row in rows if name != without)
    return total


def missing(lab: RunningLab, author: str, acknowledged: Iterable[str]) -> int:
    """How many acknowledged writes no database has that runs."""
    wanted, present = set(acknowledged), set[str]()
    for machine in lab.session().lab.with_role("mysql"):
        with contextlib.suppress(Exception):
            statement = f"SELECT id FROM foobar.notes WHERE author = '{author}'"
            present |= set(lab.sql(machine.name, statement).split())
    return len(wanted - present)


def clients(lab: RunningLab, author: str) -> Load:
    """Clients of a running lab."""
    here = lab.session().lab
    assert lab.url
    tls = None
    if here.topology.https:
        tls = ssl.create_default_context(cafile=str(ROOT / ".lab" / lab.name / "ca.pem"))
    return Load(str(here.address), 443 if tls else 80, here.site, tls, author)


def measure(lab: RunningLab, seconds: float, kill: str = "", *, separate: bool = False) -> Result:
    """Measure capacity, then load the site with each factor of it.

    Args:
        seconds: of each factor.
        kill: a machine whose power is cut in the middle of the greatest load.
        separate: run the clients on other cores than the lab; for a host without other work.
    """
    author = f"load-{uuid4().hex[:8]}"
    load_on = clients(lab, author)
    here = lab.session().lab
    slots = sum(server_slots(here, web) for web in here.with_role("nginx"))
    before = downs(lab, kill)
    outcomes: list[Outcome] = []
    goodput: dict[int, float] = {}

    async def kill_machine() -> None:
        argv = lab.command("lab.kill", kill)
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        await process.communicate()

    async def run() -> tuple[float, list[Outcome]]:
        warm = min(seconds, CAPACITY_SECONDS)
        capacity = load.goodput(await load_on.closed(slots, warm), warm)
        rate = capacity * len(load.PATTERN) / sum(kind != STATIC for kind in load.PATTERN)
        for factor in FACTORS:
            middle = kill_machine if kill and factor == FACTORS[-1] else None
            answered = await load_on.opened(rate * factor, seconds, middle)
            goodput[factor] = load.goodput((o for o in answered if o.ended <= seconds), seconds)
            outcomes.extend(answered)
            report(f"  {factor} ×: {rate * factor:.0f}/s arrive", answered, seconds)
        after = await load_on.opened(AFTER_RATE, AFTER_SECONDS)
        await load_on.close()
        return capacity, after

    with separate_cores(lab.session()) if separate else contextlib.nullcontext(False) as apart:
        if separate and not apart:
            print("  the site and its clients share all cores", flush=True)
        capacity, after = asyncio.run(run())
    writable = [o for o in after if not (kill and o.kind == load.WRITE)]
    static = [o for o in load.sent(outcomes) if o.kind == STATIC]
    return Result(
        capacity,
        goodput,
        load.errors(outcomes),
        (len(static), sum(bool(o.error) for o in static)),
        downs(lab, kill) - before,
        load.recovery(writable),
        (len(load_on.acknowledged), missing(lab, author, load_on.acknowledged)),
    )


def report(what: str, outcomes: list[Outcome], seconds: float) -> None:
    """Print one factor's result."""
    good = sorted(o.took for o in outcomes if not o.error and o.kind != STATIC) or [0.0]
    late = good[len(good) * 95 // 100]
    share = load.goodput(outcomes, seconds)
    unsent = len(outcomes) - len(load.sent(outcomes))
    note = f", {unsent} arrivals not sent: the client had no connection left" if unsent else ""
    errors = sum(load.errors(outcomes).values()) / max(1, len(load.sent(outcomes)))
    figures = f"{share:.0f}/s served, {errors:.0%} refused, 95 % within {late:.2f} s"
    print(f"{what}, {figures}{note}", flush=True)


def show(what: str, value: str, aim: str = "") -> None:
    """Print one figure and its aim."""
    print(f"  {what:<50} {value:>16}{f'   (aim {aim})' if aim else ''}", flush=True)


def show_result(result: Result) -> bool:
    """Print the result of a run; return whether it reaches the aims."""
    static, failed = result.static
    written, lost = result.acknowledged
    show("capacity, responses per second", f"{result.capacity:.0f}")
    show(f"goodput at {FACTORS[-1]} × ÷ best", f"{result.ratio:.2f}", f"≥ {AIM_GOODPUT}")
    show("healthy servers marked DOWN", str(result.downs), "0")
    show(f"errors other than {REFUSED}", str(result.unexpected), "0")
    for name, count in result.failures.most_common():
        show(f"  {name}", str(count))
    show("static files failed", f"{failed} of {static}", "0")
    show("normal after the load", f"{result.recovery:.1f} s", f"≤ {AIM_RECOVERY:g} s")
    show("acknowledged writes lost", f"{lost} of {written}", "0")
    aims = (result.downs, result.unexpected, failed, lost) == (0, 0, 0, 0)
    return aims and result.ratio >= AIM_GOODPUT and result.recovery <= AIM_RECOVERY


@contextlib.contextmanager
def running(name: str, topology: str) -> Iterator[RunningLab]:
    """A lab of that topology; an existing one is used as it is, a new one is removed."""
    lab = RunningLab(name or "bench-overload")
    if not name:
        network = os.environ.get("BENCH_NETWORK", "")
        options = ["--network", network] if network else []
        lab.invoke("lab.up", "--topology", topology, "--yes", *options, timeout=600)
    try:
        yield lab
    finally:
        if not name:
            lab.destroy()


def main(words: Iterable[str]) -> int:
    """Measure and print; returns 1 when an aim is missed."""
    parser = argparse.ArgumentParser(prog="scripts/bench overload")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each load (60)")
    parser.add_argument("--topology", choices=TOPOLOGIES, help="only this one")
    parser.add_argument("--kill", action="store_true", help="only the run that kills web-01")
    parser.add_argument("--lab", default="", help="measure this running lab instead of new ones")
    options = parser.parse_args(list(words))
    if not 2 <= options.seconds <= 600:
        parser.error("--seconds: 2 to 600")
    topologies = [options.topology] if options.topology else list(TOPOLOGIES)
    runs = [] if options.kill else [(topology, "") for topology in topologies]
    if options.kill or not options.topology:
        runs.append((topologies[0], "web-01"))
    if options.lab:
        runs = [("", "web-01" if options.kill else "")]
    reached = True
    for topology, kill in runs:
        with running(options.lab, topology) as lab:
            name = lab.session().state.topology
            print(f"{name}{f', {kill} killed in the middle' if kill else ''}", flush=True)
            started = time.monotonic()
            reached = show_result(measure(lab, options.seconds, kill, separate=True)) and reached
            show("duration", f"{time.monotonic() - started:.0f} s")
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
