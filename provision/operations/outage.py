"""How long there were no writes before a promotion, as balancers or the database measured it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from provision.core.errors import HostError
from provision.database.agent.gtid import GtidSet
from provision.database.agent.requests import FindLogged
from provision.database.operations import LONG_TIMEOUT, execute
from provision.database.promotion import Promotion
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.services.haproxy import writes as log


@dataclass(frozen=True)
class Outage:
    """A time without writes that ended when the new primary became writable.

    Args:
        seconds: None when nothing tells when it began.
        since: when it began, in UTC.
        source: what was measured, as a clause.
        measured: ``fence``: a planned promotion made the old primary read-only; ``failed-write``:
            the first write that failed at a balancer; ``last-commit``: no write failed at a
            balancer, so the outage is at most the time since the last transaction.
        failed: writes that failed at the balancers.
    """

    seconds: float
    since: datetime
    source: str
    measured: Literal["fence", "failed-write", "last-commit"]
    failed: int = 0


def measure_outage(context: Context, fleet: Fleet, done: Promotion) -> Outage | None:
    """The outage that a promotion ended.

    Args:
        fleet: machines that run, the balancers among them.

    Returns:
        None when the promotion was complete before, or nothing could be measured.
    """
    if done.old == done.new:
        return None
    if done.seconds is not None:
        source = f"from the fence of {done.old} until {done.new} was writable"
        return Outage(done.seconds, _ago(done, done.seconds), source, "fence")
    names = [m.name for m in context.lab.with_role("haproxy") if m.name in fleet.hosts]
    read = fleet.each(lambda host: _writes(host, done.writable_at), names)
    # By the time between a write and the end of the outage, whichever clock measured it.
    writes = [write for entries in read.values() if entries is not None for write in entries]
    failed = log.failed_writes(writes, 0.0)
    answered = " and ".join(name for name, entries in read.items() if entries is not None)
    if failed is not None:
        source = (
            f"from the first of {failed.count} failed writes in HAProxy's log on {answered} "
            f"until {done.new} was writable"
        )
        return Outage(
            -failed.first, _ago(done, -failed.first), source, "failed-write", failed.count
        )
    return _since_last_commit(context, fleet.host(done.new), done, answered)


def _writes(host: Host, end: float) -> list[log.LoggedWrite] | None:
    """The writes in one balancer's log, in seconds relative to ``end``; None when unknown.

    Args:
        end: on the controller's monotonic clock.
    """
    try:
        now = host.run("date", "+%s.%N")
        offset = float(now.stdout) - (time.monotonic() - end)
        # Exit status 1 means that no line matches.
        text = host.run(*log.COMMAND).stdout
    except (HostError, ValueError):
        return None
    return [
        replace(write, begin=write.begin - offset, end=write.end - offset)
        for write in log.parse_writes(text)
    ]


def _since_last_commit(
    context: Context, host: Host, done: Promotion, answered: str
) -> Outage | None:
    """The time since the last transaction that the new primary received from the old one."""
    until = round(time.time() * 1_000_000)
    before = done.applied - done.applied.last_of_each_source
    try:
        logged = execute(host, FindLogged(before, until), LONG_TIMEOUT)
        since = GtidSet(",".join(logged.gtids)) - done.applied
        if since:  # the new primary has committed transactions of its own already
            logged = execute(host, FindLogged(before | since, until), LONG_TIMEOUT)
        now = float(host.run("date", "+%s.%N").stdout) - (time.monotonic() - done.writable_at)
    except (HostError, ValueError):
        return None
    if not logged.last_commit:
        return None
    seconds = max(0.0, now - logged.last_commit / 1_000_000)
    seen = f"no write failed in HAProxy's log on {answered}; " if answered else ""
    source = f"{seen}from the last transaction before it until {done.new} was writable"
    return Outage(seconds, _ago(done, seconds), source, "last-commit")


def _ago(done: Promotion, seconds: float) -> datetime:
    """So many seconds before the new primary became writable, by the controller's clock."""
    return datetime.now(UTC) - timedelta(seconds=time.monotonic() - done.writable_at + seconds)
