"""The proof of every single point of failure: each component is taken down, a visitor is watched.

One component at a time goes (a service killed and kept down, or a whole machine without power),
for a few seconds, while somebody reads pages, writes rows and looks the site's name up; then it is
put back, whatever happened, and the next one waits until the site is whole again.

Where the lab promotes by itself, a visitor's writes may come back while the database is still down:
it stays down until they have, or until `TAKEOVER` is over. What was promoted meanwhile hands the
writes back afterwards, so that every row begins from the same lab.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from provision import checks
from provision.checks.observe import observe, request
from provision.core import state as records
from provision.core.errors import LabError, UsageError
from provision.core.lab import Lab
from provision.core.report import Report
from provision.database import promote as db_promote
from provision.database import rejoin as db_rejoin
from provision.database.failover import role as automatic
from provision.database.failover.control import adopt
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.providers.base import Provider
from provision.services.dns import names

PARTS = {
    "haproxy": ("haproxy.service",),
    "nginx": ("nginx.service",),
    "app": ("foobar.socket", "foobar.service"),
    "mysql": ("mysql.service",),
    "dns": ("dnsmasq.service",),
}
"""By role, what has to stop so that its part is down; the other roles serve no visitor."""

PAUSE = 0.1
"""Seconds between a visitor's requests."""

PATIENCE = 4.0
"""Seconds after which a visitor gives up on a request."""

TAKEOVER = 20.0
"""Seconds in which a lab that promotes by itself takes writes again; it aims at half of that."""

LATER = ("targets", "alerts")
"""Kinds of checks that say what monitoring has noticed: some scrapes later than a visitor."""

WHOLE = 60.0
"""Seconds in which the site is whole again after something was put back."""


@dataclass(frozen=True)
class Component:
    """Something that can fail.

    Args:
        machine: where it is.
        part: a role of `PARTS`, or ``machine``: all of it, its power.
    """

    machine: str
    part: str


@dataclass(frozen=True)
class Watch:
    """What a visitor noticed of one kind of request while a component was down.

    Args:
        asked: requests that were begun after it went down.
        failed: those without a good answer.
        gap: seconds of the longest time without a good answer.
        ends_failing: whether it still failed when the component was put back.
    """

    asked: int
    failed: int
    gap: float
    ends_failing: bool

    def __str__(self) -> str:
        if self.ends_failing:
            return "fail"
        return f"pause of {self.gap:.1f} s" if self.failed else "go on"


@dataclass(frozen=True)
class Row:
    """A component, and what its failure means to a visitor.

    Args:
        component: what was taken down.
        reads: pages.
        writes: rows.
        looked_up: the site's name.
        seconds: it was down.
        back: seconds until the site was whole again.
    """

    component: Component
    reads: Watch
    writes: Watch
    looked_up: Watch
    seconds: float
    back: float

    @property
    def lost(self) -> tuple[str, ...]:
        """What a visitor cannot do while it is down: ``reads``, ``writes``, ``names``."""
        parts = (("reads", self.reads), ("writes", self.writes), ("names", self.looked_up))
        return tuple(name for name, watch in parts if watch.ends_failing)

    @property
    def verdict(self) -> str:
        """For people."""
        if "reads" in self.lost:
            return "SINGLE POINT OF FAILURE: the site is gone"
        if "writes" in self.lost:
            return "SINGLE POINT OF FAILURE for writes"
        if "names" in self.lost:
            return "SINGLE POINT OF FAILURE for new visitors: no name"
        noticed = [w for w in (self.reads, self.writes, self.looked_up) if w.failed]
        return "no: a short pause" if noticed else "no: nobody notices"

    def values(self) -> dict[str, Any]:
        """The row as plain values, for programs."""

        def watch(one: Watch) -> dict[str, Any]:
            return {
                "asked": one.asked,
                "failed": one.failed,
                "longest_gap": round(one.gap, 2),
                "ok": not one.ends_failing,
            }

        return {
            "machine": self.component.machine,
            "component": self.component.part,
            "reads": watch(self.reads),
            "writes": watch(self.writes),
            "names": watch(self.looked_up),
            "single_point_of_failure": bool(self.lost),
            "lost": list(self.lost),
            "seconds_down": round(self.seconds, 1),
            "seconds_until_whole": round(self.back, 1),
        }


def components(lab: Lab, only: str = "", *, machines: bool = True) -> tuple[Component, ...]:
    """Everything that can fail, from the front inwards; whole machines last.

    Args:
        lab: the lab.
        only: a machine, a role of `PARTS`, or ``machine``; empty for all.
        machines: whether power can be taken away.

    Raises:
        UsageError: when nothing is meant by ``only``.
    """
    found = [Component(m.name, p) for p in PARTS for m in lab.machines if p in m.roles]
    found += [Component(m.name, "machine") for m in lab.machines if machines]
    chosen = tuple(c for c in found if only in ("", c.machine, c.part))
    if not chosen:
        words = [m.name for m in lab.machines] + list(dict.fromkeys(c.part for c in found))
        raise UsageError(f"{only!r} is no component of lab {lab.name}", f"choose from {words}")
    return chosen


# --- a visitor -----------------------------------------------------------------------------------


@dataclass
class _Visitor:
    """Somebody who does one thing again and again, and remembers when it worked."""

    act: Callable[[], bool]
    done: list[tuple[float, float, bool]] = field(default_factory=list)

    def visit(self, stop: threading.Event) -> None:
        while not stop.is_set():
            began = time.monotonic()
            good = self.act()
            self.done.append((began, time.monotonic(), good))
            stop.wait(max(0.0, PAUSE - (time.monotonic() - began)))


def summary(done: Sequence[tuple[float, float, bool]], down: float, up: float) -> Watch:
    """What was noticed between two moments. A pure function.

    Args:
        done: requests in order: when each began, when it ended, whether it was answered well.
        down: when the component was down.
        up: when it was about to be put back.
    """
    window = [one for one in done if one[0] >= down and one[0] < up]
    failed = sum(not good for _, _, good in window)
    gap, since = 0.0, down
    for _, end, good in window:
        gap = max(gap, min(end, up) - since)
        since = end if good else since
    gap = max(gap, up - since) if window and not window[-1][2] else gap
    return Watch(len(window), failed, gap, bool(window) and not window[-1][2])


def _reads(lab: Lab) -> bool:
    page = request(lab, "/", timeout=PATIENCE)
    return page.status == 200 and bool(page.header("x-read-from"))


def _writes(lab: Lab) -> bool:
    path = f"/api/markers/{secrets.token_hex(8)}"
    return request(lab, path, "PUT", timeout=PATIENCE).status in (200, 201)


def _finds(lab: Lab) -> bool:
    """A resolver asks the next name server when one is silent."""
    servers = [str(m.address) for m in lab.with_role("dns")]
    wanted = (str(lab.address),)
    answers = (names.ask(s, lab.site, timeout=0.5).values("A") for s in servers)
    return not servers or any(answer == wanted for answer in answers)


@contextlib.contextmanager
def _visited(lab: Lab) -> Iterator[tuple[_Visitor, _Visitor, _Visitor]]:
    stop = threading.Event()
    visitors = (
        _Visitor(lambda: _reads(lab)),
        _Visitor(lambda: _writes(lab)),
        _Visitor(lambda: _finds(lab)),
    )
    threads = [threading.Thread(target=v.visit, args=(stop,), daemon=True) for v in visitors]
    for thread in threads:
        thread.start()
    try:
        yield visitors
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE + 1)


# --- faults --------------------------------------------------------------------------------------


def take_down(fleet: Fleet, provider: Provider, component: Component) -> None:
    """Let a component fail, and keep it down.

    Raises:
        LabError: when it cannot be done.
    """
    if component.part == "machine":
        provider.kill(fleet.lab, component.machine)
        return
    host = fleet.host(component.machine)
    units = PARTS[component.part]
    services = [unit for unit in units if unit.endswith(".service")]
    # Killed as a fault does; stopped, so that systemd does not start it again at once.
    host.run("systemctl", "kill", "--signal=KILL", *services)
    done = host.run("systemctl", "stop", *units, timeout=30)
    if not done.ok:
        raise LabError(f"{component.machine}: {', '.join(units)} could not be stopped: {done.err}")


def put_back(fleet: Fleet, provider: Provider, component: Component) -> None:
    """Start what was taken down.

    Raises:
        LabError: when it does not start.
    """
    if component.part == "machine":
        provider.start(fleet.lab, component.machine)
        return
    units = PARTS[component.part]
    host = fleet.host(component.machine)
    host.run("systemctl", "reset-failed", *units)
    done = host.run("systemctl", "start", *units, timeout=90)
    if not done.ok:
        raise LabError(
            f"{component.machine}: {', '.join(units)} could not be started again",
            f"invoke lab.logs {component.machine}",
            output=done.err,
        )


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C has to wait: what was taken down is being put back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def try_out(
    context: Context,
    fleet: Fleet,
    provider: Provider,
    component: Component,
    seconds: float,
    report: Report,
) -> Row:
    """Take one component down, watch, put it back, and wait until the site is whole.

    Args:
        context: the lab.
        fleet: its running machines.
        provider: takes power away and gives it.
        component: what fails.
        seconds: how long it is down.
        report: told what is being done.

    Raises:
        LabError: when it cannot be taken down, or the site does not become whole again.
        KeyboardInterrupt: after it was put back.
    """
    lab, context = context.lab, adopt(_recorded(context), fleet)
    longest = max(seconds, TAKEOVER) if automatic.wanted(context) else seconds
    with _visited(lab) as (reader, writer, finder):
        began = time.monotonic()
        try:
            report(component.machine, f"taking {component.part} down")
            take_down(fleet, provider, component)
            down = time.monotonic()
            time.sleep(seconds)
            # A visitor who waits is watched until there is an answer, or none.
            deadline = time.monotonic() + PATIENCE
            while _waiting(reader, writer, down) and time.monotonic() < deadline:
                time.sleep(PAUSE)
            while not _goes_on(reader, writer, down) and time.monotonic() < down + longest:
                report(component.machine, "waiting for an end of the pause")
                time.sleep(PAUSE)
        finally:
            up = time.monotonic()
            with _undisturbed():
                report(component.machine, f"putting {component.part} back")
                put_back(fleet, provider, component)
        rows = [summary(v.done, down, up) for v in (reader, writer, finder)]
    started = time.monotonic()
    _hand_back(context, fleet, provider, report)
    whole(context, fleet, provider, report)
    back = time.monotonic() - started
    return Row(component, rows[0], rows[1], rows[2], up - began, back)


def _waiting(reader: _Visitor, writer: _Visitor, down: float) -> bool:
    return any(not any(began >= down for began, _, _ in list(v.done)) for v in (reader, writer))


def _goes_on(reader: _Visitor, writer: _Visitor, down: float) -> bool:
    """Whether the last answers were good."""
    last = [
        [good for began, _, good in list(v.done) if began >= down][-1:] for v in (reader, writer)
    ]
    return last == [[True], [True]]


def _recorded(context: Context) -> Context:
    """The lab with what is recorded of it now."""
    return replace(context, state=records.load(context.lab.directory) or context.state)


def _hand_back(context: Context, fleet: Fleet, provider: Provider, report: Report) -> None:
    """After a promotion that the lab made by itself: the old primary comes back, and leads again.

    Raises:
        LabError: when it does not in `WHOLE` seconds.
    """
    old, deadline = context.state.primary, time.monotonic() + WHOLE
    while automatic.wanted(context):
        try:
            now = adopt(_recorded(context), fleet)
            if now.state.primary == old:
                return
            report(old, f"following {now.state.primary}, which was promoted meanwhile")
            db_rejoin.rejoin(now, fleet, old)
            # Only a lab that is whole has a replica that may lead.
            whole(now, fleet, provider, report)
            report(old, f"taking the writes back from {now.state.primary}")
            db_promote.promote(now, fleet, old)
            return
        except LabError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def whole(context: Context, fleet: Fleet, provider: Provider, report: Report) -> None:
    """Wait until every check of the lab passes, but those that tell of monitoring (`LATER`).

    Raises:
        LabError: when they do not in `WHOLE` seconds.
    """
    deadline = time.monotonic() + WHOLE
    while True:
        now = adopt(_recorded(context), fleet)
        seen = observe(now, fleet, provider.state(now.lab))
        results = checks.judge(now, seen)
        bad = [r for r in results if not r.ok and r.check.name.partition("/")[0] not in LATER]
        if not bad:
            return
        if time.monotonic() > deadline:
            failed = ", ".join(r.check.name for r in bad)
            raise LabError(f"the lab is not whole again: {failed}", "invoke lab.up mends it")
        report(bad[0].check.machine, f"waiting for {bad[0].check.name}")
        time.sleep(0.3)
