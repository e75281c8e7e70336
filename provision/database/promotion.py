"""What every promotion does: record the new primary, make it writable, repoint the replicas.

Every interruption is harmless because of the order of the steps. The old primary is fenced first,
durably (its own record names the new one); the new primary catches up; the lab's record changes,
which is the point of no return; only then does the new primary become writable. When the controller
dies before that point, no server is writable, and ``lab.up`` makes the old primary writable again.
After it, ``lab.up`` or the same command completes the promotion. Two servers are never writable at
the same time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from provision.core import state as records
from provision.core.errors import HostError, LabError, not_among
from provision.core.parallel import in_parallel
from provision.database.agent.gtid import GtidSet
from provision.database.agent.requests import BecomePrimary
from provision.database.operations import CLONE_TIMEOUT, execute
from provision.database.role import assume_role, record
from provision.engine.context import Context
from provision.engine.fleet import Fleet

OnStep = Callable[[str], None]
"""Called after each step of a promotion: ``checked``, ``fenced`` (or ``confirmed dead``),
``caught up``, ``recorded``, ``promoted``."""


@dataclass(frozen=True)
class Promotion:
    """What a promotion did.

    Args:
        seconds: how long no server was writable; None when the old primary was dead, because this
            command does not know since when (`operations.outage` measures it).
        writable_at: when the new primary became writable, on the monotonic clock.
        repointed: machines that replicate from the new primary now.
        not_repointed: machines that do not, with the reason.
        applied: what the new primary had received of a dead one.
    """

    old: str
    new: str
    epoch: int
    seconds: float | None
    writable_at: float
    repointed: tuple[str, ...]
    not_repointed: Mapping[str, str]
    applied: GtidSet = field(default_factory=GtidSet)


def require_database(context: Context, name: str) -> None:
    """Raise a UsageError unless the machine has a database."""
    if "mysql" not in context.lab.machine(name).roles:
        names = [m.name for m in context.lab.with_role("mysql")]
        raise not_among(f"{name} has no database", "", names)


def next_epoch(context: Context, name: str) -> Context:
    """The context with the machine as primary in the next epoch; not yet recorded."""
    state = replace(context.state, primary=name, epoch=context.state.epoch + 1)
    return replace(context, state=state)


def commit(after: Context) -> Context:
    """Record the new primary: from here on, every command completes the promotion."""
    written = records.change(
        after.lab.directory, primary=after.state.primary, epoch=after.state.epoch
    )
    return replace(after, state=written)


def complete(
    context: Context,
    fleet: Fleet,
    old: str,
    seconds: float,
    on_step: OnStep = lambda _step: None,
    started: float | None = None,
    dead: tuple[str, ...] = (),
) -> Promotion:
    """Make the recorded primary writable and repoint the replicas.

    This is the end of every promotion, and all that an interrupted one still needs.

    Args:
        started: when the pause began, on the monotonic clock; None when that is unknown.
        dead: machines that are known not to run; they are not contacted.
    """
    new, epoch = context.state.primary, context.state.epoch
    on_step("recorded")
    try:
        execute(fleet.host(new), BecomePrimary(record(context, new), seconds, dead))
    except HostError as error:
        raise LabError(
            f"{new} is recorded as primary, but is not writable yet: {error.what}",
            f"invoke db.promote {new} completes the promotion",
            output=error.output,
        ) from None
    writable_at = time.monotonic()
    pause = None if started is None else writable_at - started
    on_step("promoted")
    repointed, not_repointed = _repoint(context, fleet, dead)
    return Promotion(old, new, epoch, pause, writable_at, repointed, not_repointed)


def _repoint(
    context: Context, fleet: Fleet, dead: tuple[str, ...]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Make all other machines replicate from the recorded primary, in parallel.

    Returns:
        The machines that do, and those that do not with the reason.
    """
    failed: dict[str, str] = {}

    def replicate(name: str) -> bool:
        try:
            execute(fleet.host(name), assume_role(context, name), CLONE_TIMEOUT)
        except HostError as error:
            failed[name] = error.what
            return False
        return True

    skipped = (context.state.primary, *dead)
    replicas = [m.name for m in context.lab.with_role("mysql") if m.name not in skipped]
    for name in replicas:
        if name not in fleet.hosts:
            failed[name] = "it is not running; invoke lab.up makes it a replica"
    done = in_parallel({n: partial(replicate, n) for n in replicas if n in fleet.hosts})
    return tuple(name for name, ok in done.items() if ok), failed
