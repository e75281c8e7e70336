"""Find single points of failure: take each component down while clients use the site.

A component is down for some seconds and is restored whatever happens; the next one follows when
all checks pass again. With automatic failover the database stays down until writes succeed again,
at most `TAKEOVER_SECONDS`; afterwards the old primary is promoted again, so that every component
is tried in the same lab.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from provision import checks
from provision.checks.observe import observe
from provision.core import state as records
from provision.core.errors import LabError
from provision.core.report import Report
from provision.core.waiting import Timeout, wait_until
from provision.database import promote as db_promote
from provision.database import rejoin as db_rejoin
from provision.database.failover import feature as autopromote
from provision.database.failover import saved
from provision.database.failover.control import adopt
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.providers.base import Provider
from provision.teaching.clients import INTERVAL, TIMEOUT, Clients, Impact, impact, running_clients
from provision.teaching.faults import Component, restore, take_down

TAKEOVER_SECONDS = 20.0
"""Longest automatic failover that is waited for; it aims at half of that."""

RECOVERY_SECONDS = 60.0
"""Time for the lab to become healthy again after a component was restored."""

DELAYED_CHECKS = ("targets", "alerts")
"""Kinds of checks that read Prometheus, which notices a recovery some scrapes later."""


@dataclass(frozen=True)
class FaultResult:
    """The impact of one component's failure; it recovered when all checks passed again."""

    component: Component
    reads: Impact
    writes: Impact
    names: Impact
    seconds_down: float
    seconds_to_recover: float

    @property
    def lost(self) -> tuple[str, ...]:
        """What was unavailable: ``reads``, ``writes``, ``names``."""
        kinds = (("reads", self.reads), ("writes", self.writes), ("names", self.names))
        return tuple(name for name, measured in kinds if measured.unavailable)

    @property
    def verdict(self) -> str:
        """The result in words."""
        if "reads" in self.lost:
            return "SINGLE POINT OF FAILURE: the site is unavailable"
        if "writes" in self.lost:
            return "SINGLE POINT OF FAILURE for writes"
        if "names" in self.lost:
            return "SINGLE POINT OF FAILURE for name resolution"
        interrupted = any(measured.failed for measured in (self.reads, self.writes, self.names))
        return "no: a short interruption" if interrupted else "no: no impact"


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ctrl-C has no effect while a component is being restored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def measure(
    context: Context,
    fleet: Fleet,
    provider: Provider,
    component: Component,
    seconds: float,
    report: Report,
) -> FaultResult:
    """Take a component down, measure the impact, restore it, and wait until the lab is healthy.

    Raises:
        LabError: when it cannot be taken down, or the lab does not recover.
        KeyboardInterrupt: after it was restored.
    """
    context = adopt(_recorded(context), fleet)
    longest = max(seconds, TAKEOVER_SECONDS) if autopromote.enabled(context) else seconds
    with running_clients(context) as clients:
        begin = time.monotonic()
        try:
            report(component.machine, f"taking {component.part} down")
            take_down(fleet, provider, component)
            down = time.monotonic()
            time.sleep(seconds)
            with contextlib.suppress(Timeout):
                # A request that was sent before the fault may have to time out first.
                wait_until(
                    lambda: _all_responded(clients, down),
                    2 * TIMEOUT,
                    "responses",
                    interval=INTERVAL,
                )
            remaining = down + longest - time.monotonic()
            if remaining > 0 and not _both_succeed(clients, down):
                report(component.machine, "waiting until requests succeed again")
                with contextlib.suppress(Timeout):
                    wait_until(
                        lambda: _both_succeed(clients, down),
                        remaining,
                        "requests to succeed",
                        interval=INTERVAL,
                    )
        finally:
            up = time.monotonic()
            with _interrupts_ignored():
                report(component.machine, f"restoring {component.part}")
                restore(fleet, provider, component)
        reads = impact(clients.reader.requests, down, up)
        sent = [] if clients.writer is clients.reader else clients.writer.requests
        writes = impact(sent, down, up)
        names = impact(clients.resolver.requests, down, up)
    restored = time.monotonic()
    _restore_primary(context, fleet, provider, report)
    wait_until_healthy(context, fleet, provider, report)
    recovered = time.monotonic() - restored
    return FaultResult(component, reads, writes, names, up - begin, recovered)


def _all_responded(clients: Clients, down: float) -> bool:
    """Whether reads and writes that were sent during the fault have finished."""
    return all(client.latest(down) for client in (clients.reader, clients.writer))


def _both_succeed(clients: Clients, down: float) -> bool:
    """Whether the latest read and the latest write during the fault succeeded."""
    latest = [client.latest(down) for client in (clients.reader, clients.writer)]
    return all(item is not None and item.ok for item in latest)


def _recorded(context: Context) -> Context:
    """The context with the lab's current record."""
    return replace(context, state=records.load(context.lab.directory) or context.state)


def _restore_primary(context: Context, fleet: Fleet, provider: Provider, report: Report) -> None:
    """After an automatic failover, rejoin the old primary and promote it again.

    Raises:
        LabError: when that fails for `RECOVERY_SECONDS`.
    """
    if not autopromote.enabled(context):
        return
    old, failures = context.state.primary, list[LabError]()

    def is_primary() -> bool:
        try:
            current = adopt(_recorded(context), fleet)
            if current.state.primary == old:
                return True
            report(old, f"rejoining as a replica of {current.state.primary}")
            # It rejoins by itself, maybe at this moment; what it saves is moved here.
            saved.collect(current, fleet)
            db_rejoin.rejoin(current, fleet, old)
            # A replica is eligible for promotion only in a healthy lab.
            wait_until_healthy(current, fleet, provider, report)
            report(old, f"promoting it again, instead of {current.state.primary}")
            db_promote.promote(current, fleet, old)
        except LabError as error:
            failures.append(error)
            return False
        return True

    try:
        wait_until(is_primary, RECOVERY_SECONDS, f"{old} to be primary again", interval=0.5)
    except Timeout as timeout:
        raise (failures[-1] if failures else timeout) from None


def wait_until_healthy(context: Context, fleet: Fleet, provider: Provider, report: Report) -> None:
    """Wait until all checks pass, except `DELAYED_CHECKS`.

    Raises:
        LabError: when they do not within `RECOVERY_SECONDS`.
    """
    failing: list[checks.CheckResult] = []

    def healthy() -> bool:
        current = adopt(_recorded(context), fleet)
        observation = observe(current, fleet, provider.state(current.lab))
        failing[:] = [
            result
            for result in checks.judge(current, observation)
            if not result.ok and result.check.name.partition("/")[0] not in DELAYED_CHECKS
        ]
        if failing:
            report(failing[0].check.machine, f"waiting for check {failing[0].check.name}")
        return not failing

    try:
        wait_until(healthy, RECOVERY_SECONDS, "all checks to pass", interval=0.3)
    except Timeout:
        names = ", ".join(result.check.name for result in failing)
        raise LabError(
            f"the lab is not healthy again after {RECOVERY_SECONDS:g} s; failing checks: {names}",
            "invoke lab.up repairs it",
        ) from None
