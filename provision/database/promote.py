"""Moving the primary from one machine to another: db.promote.

The order of a promotion makes every interruption harmless. The old primary is fenced first, durably
(its own record names the new one), then the new one is brought level, then the lab's record changes
(the point of no return), and only then does the new one take writes. A controller that dies before
that point leaves a lab without a primary, which ``lab.up`` gives back to the old one; after it,
``lab.up`` or the same command finishes the promotion. At no moment do two servers take writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from provision.core import state as records
from provision.core.errors import HostError, LabError, UsageError
from provision.core.lab import Machine
from provision.core.state import State
from provision.database import role
from provision.database.gtid import subtract
from provision.database.servers import CLONE_TIMEOUT, call, following, typed
from provision.engine.context import Context
from provision.engine.fleet import Fleet, in_parallel
from provision.engine.host import RemoteError
from provision.providers.base import Provider


@dataclass(frozen=True)
class Promotion:
    """What a promotion did.

    Args:
        old: the primary before.
        new: the primary now.
        epoch: the number of this promotion.
        seconds: without a server that takes writes; from the command's first step when the old
            one was dead.
        followed: machines that replicate from the new primary now.
        left: machines that do not, and why.
    """

    old: str
    new: str
    epoch: int
    seconds: float
    followed: tuple[str, ...]
    left: Mapping[str, str]


def promote(
    context: Context,
    fleet: Fleet,
    name: str,
    *,
    seconds: float = 30.0,
    stage: Callable[[str], None] = lambda _stage: None,
) -> Promotion:
    """Move the primary to another machine while both live; no write is lost.

    Args:
        context: the lab.
        fleet: its running machines.
        name: the machine that shall take writes.
        seconds: how long the new primary may need to catch up.
        stage: told ``ready``, ``fenced``, ``level``, ``recorded``, ``promoted`` in their turn.

    Raises:
        UsageError: when the machine has no database.
        LabError: when it cannot be done; the old primary takes writes again then.
    """
    _check(context, name)
    old = context.state.primary
    if old == name:
        return _finish(context, fleet, name, seconds)
    if old not in fleet.hosts:
        raise LabError(
            f"the primary {old} does not run, so it cannot hand over",
            f"start it ({typed(context, f'lab.start {old}')}), or, when it is lost: "
            + typed(context, f"db.promote {name} --old-primary-is-dead"),
        )
    seen = _look(context, fleet, [old, name])
    if not seen[old]["own"]["answered"]:
        raise LabError(
            f"the database on the primary {old} does not answer: {seen[old]['own']['error']}",
            "when it does not come back: "
            + typed(context, f"db.promote {name} --old-primary-is-dead"),
        )
    _must_follow(context, seen[name], old)
    # Level before the fence, so that the pause is short.
    behind = call(
        fleet.host(name), "catch_up", seconds + 15, gtids=seen[old]["own"]["gtids"], seconds=seconds
    )
    if behind["missing"]:
        raise LabError(
            f"{name} did not catch up with {old}; it lacks {behind['missing']}",
            f"{typed(context, 'db.status')} shows the lag; --deadline waits longer",
            output=behind["error"],
        )
    stage("ready")

    epoch = context.state.epoch + 1
    after = replace(context, state=replace(context.state, primary=name, epoch=epoch))
    began = time.monotonic()
    try:
        fenced = call(fleet.host(old), "fence", record=_record(after, old))
        stage("fenced")
        behind = call(
            fleet.host(name), "catch_up", seconds + 15, gtids=fenced["gtids"], seconds=seconds
        )
        if behind["missing"]:
            raise LabError(f"{name} did not receive {behind['missing']} in {seconds:.0f} s")
        stage("level")
        after = _commit(after)
    except (LabError, KeyboardInterrupt) as error:
        if not _give_back(context, fleet, old, seconds) or isinstance(error, KeyboardInterrupt):
            raise
        raise LabError(
            f"{error.what}; nothing was lost, and {old} takes writes again",
            error.advice,
            output=error.output,
        ) from None
    stage("recorded")
    _lead(after, fleet, name, seconds)
    pause = time.monotonic() - began
    stage("promoted")
    followed, left = _repoint(after, fleet)
    return Promotion(old, name, epoch, pause, followed, left)


def _give_back(context: Context, fleet: Fleet, old: str, seconds: float) -> bool:
    """Let the old primary take writes again, unless the lab's record names another by now."""
    recorded = records.load(context.lab.directory)
    if recorded is None or recorded.primary != old:
        return False
    try:
        call(fleet.host(old), "lead", seconds + 30, record=_record(context, old), seconds=seconds)
    except HostError:
        return False  # read-only and recorded as primary: lab.up goes on from here
    return True


def promote_after_death(
    context: Context,
    fleet: Fleet,
    provider: Provider,
    name: str,
    *,
    seconds: float = 30.0,
    stage: Callable[[str], None] = lambda _stage: None,
) -> Promotion:
    """Promote a replica although the primary cannot hand over.

    Args:
        context: the lab.
        fleet: its running machines.
        provider: knows whether the old primary's machine runs.
        name: the replica that shall take writes.
        seconds: how long it may need to apply what it has received.
        stage: told ``dead``, ``level``, ``recorded``, ``promoted`` as they are reached.

    Raises:
        UsageError: when the machine has no database.
        LabError: when the old primary is not dead, another replica has received more, or what was
            received cannot be applied in time. Nothing has changed then.
    """
    _check(context, name)
    old = context.state.primary
    if old == name:
        return _finish(context, fleet, name, seconds)
    began = time.monotonic()
    epoch = context.state.epoch + 1
    after = replace(context, state=replace(context.state, primary=name, epoch=epoch))
    others = [
        m.name for m in context.lab.with_role("mysql") if m.name in fleet.hosts and m.name != old
    ]
    if name not in others:
        raise LabError(f"{name} is not running", typed(context, f"lab.start {name}"))
    address = {old: str(context.lab.machine(old).address)}
    seen = fleet.each(lambda host: call(host, "look", machine=host.name, ask=address), others)
    buried = _is_dead(context, fleet, provider, old, seen, after)
    stage("dead")
    _must_be_most_complete(context, seen, name)
    try:
        call(fleet.host(name), "drain", seconds + 30, seconds=seconds)
    except RemoteError as error:
        raise LabError(
            f"{name} is not promoted: {error.what}. These transactions are on {name}, received and "
            "not applied; promoting it now would throw them away",
            f"wait longer (--deadline {2 * seconds:.0f}), or mend what stops it: "
            + typed(context, f"lab.logs {name}")
            + " --service mysql",
            output=error.output,
        ) from None
    stage("level")
    after = _commit(after)
    stage("recorded")
    _lead(after, fleet, name, seconds, dead=(old,))
    pause = time.monotonic() - began
    stage("promoted")
    followed, left = _repoint(after, fleet, without=(old,))
    why = "its mysqld is stopped" if buried else "it does not run"
    left = {**left, old: f"{why}; when it is back: {typed(context, f'db.rejoin {old}')}"}
    return Promotion(old, name, epoch, pause, followed, left)


def _record(context: Context, name: str) -> dict[str, Any]:
    return role.record(context, context.lab.machine(name)).values()


def _check(context: Context, name: str) -> None:
    if "mysql" not in context.lab.machine(name).roles:
        names = ", ".join(m.name for m in context.lab.with_role("mysql"))
        raise UsageError(f"{name} has no database", f"choose from {names}")


def _look(context: Context, fleet: Fleet, names: list[str]) -> dict[str, Any]:
    return fleet.each(lambda host: call(host, "look", machine=host.name), names)


def _must_follow(context: Context, seen: Mapping[str, Any], old: str) -> None:
    name = seen["own"]["name"]
    if not seen["own"]["answered"]:
        raise LabError(
            f"the database on {name} does not answer: {seen['own']['error']}",
            typed(context, f"lab.logs {name}") + " --service mysql",
        )
    source = str(context.lab.machine(old).address)
    if seen["source"] != source:
        raise LabError(
            f"{name} does not replicate from {old}",
            f"{typed(context, f'db.rejoin {name}')} makes it a replica first",
        )


def _must_be_most_complete(context: Context, seen: Mapping[str, Any], name: str) -> None:
    """No other replica may have received what the chosen one has not."""

    def has(one: Mapping[str, Any]) -> str:
        return ",".join(text for text in (one["own"]["gtids"], one["received"]) if text)

    own = seen[name]["own"]
    if not own["answered"]:
        raise LabError(f"the database on {name} does not answer: {own['error']}")
    for other, one in seen.items():
        if other == name or not one["own"]["answered"]:
            continue
        if one["own"]["writable"] or one["own"]["epoch"] > own["epoch"]:
            why = "takes writes" if one["own"]["writable"] else "knows a later promotion"
            raise LabError(f"{other} {why}", f"{typed(context, 'db.status')} shows all databases")
        more = subtract(has(one), has(seen[name]))
        if more.count:
            raise LabError(
                f"{other} has received {more.count} transactions that {name} has not: {more}",
                typed(context, f"db.promote {other} --old-primary-is-dead"),
            )


def _is_dead(
    context: Context,
    fleet: Fleet,
    provider: Provider,
    old: str,
    seen: Mapping[str, Any],
    after: Context,
) -> bool:
    """Make sure that the old primary takes no writes; True when its machine lives.

    Raises:
        LabError: when it answers, or nobody can tell.
    """
    alive = typed(context, f"db.promote {after.state.primary}")
    if old in fleet.hosts:
        try:
            itself = call(fleet.host(old), "look", 15, machine=old)
        except HostError:
            itself = None
        if itself and itself["own"]["answered"]:
            raise LabError(f"{old} is not dead: its database answers", f"{alive} (it hands over)")
        if itself:
            call(fleet.host(old), "bury", 120, record=_record(after, old))
            return True
    if provider.state(context.lab).get(old) == "running":
        raise LabError(
            f"{old} cannot be reached, but its machine runs: perhaps only the network is cut, and "
            "it goes on taking writes",
            f"make sure of it: {typed(context, f'lab.kill {old}')}, then the same again",
        )
    for name, one in seen.items():
        if one["peers"][0]["answered"]:
            raise LabError(f"{old} is not dead: its database answers {name}", alive)
    return False


def _commit(after: Context) -> Context:
    """Write who is primary now: from here on, every command goes forward."""
    written: State = records.change(
        after.lab.directory, primary=after.state.primary, epoch=after.state.epoch
    )
    return replace(after, state=written)


def _lead(
    context: Context, fleet: Fleet, name: str, seconds: float, dead: tuple[str, ...] = ()
) -> None:
    try:
        call(
            fleet.host(name),
            "lead",
            seconds + 60,
            record=_record(context, name),
            seconds=seconds,
            dead=list(dead),
        )
    except HostError as error:
        raise LabError(
            f"{name} is recorded as primary, but does not take writes yet: {error.what}",
            f"{typed(context, f'db.promote {name}')} finishes it",
            output=error.output,
        ) from None


def _finish(context: Context, fleet: Fleet, name: str, seconds: float) -> Promotion:
    """Promote the machine that is recorded already: nothing to do, or an interrupted promotion."""
    began = time.monotonic()
    _lead(context, fleet, name, seconds)
    pause = time.monotonic() - began
    followed, left = _repoint(context, fleet)
    return Promotion(name, name, context.state.epoch, pause, followed, left)


def _repoint(
    context: Context, fleet: Fleet, without: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Let all others follow the recorded primary, at once; those that cannot are named."""
    left: dict[str, str] = {}
    work: dict[str, Callable[[], bool]] = {}

    def one(machine: Machine) -> bool:
        try:
            call(fleet.host(machine.name), "follow", CLONE_TIMEOUT, **following(context, machine))
        except HostError as error:
            left[machine.name] = error.what
            return False
        return True

    for machine in context.lab.with_role("mysql"):
        if machine.name == context.state.primary or machine.name in without:
            continue
        if machine.name not in fleet.hosts:
            again = typed(context, "lab.up")
            left[machine.name] = f"it does not run; {again} makes it follow"
            continue
        work[machine.name] = lambda machine=machine: one(machine)  # type: ignore[misc]
    done = in_parallel(work)
    return tuple(name for name, ok in done.items() if ok), left
