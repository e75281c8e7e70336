"""Apply one unit on one machine: the only place that sends a unit and reads its result."""

from __future__ import annotations

from collections.abc import Sequence

from provision.core.errors import LabError
from provision.core.waiting import Timeout, wait_until
from provision.engine.agent.codec import decode
from provision.engine.agent.protocol import Confirmation, UnitRequest, UnitResponse
from provision.engine.host import Host
from provision.engine.plan import Unit, UnitPlan, plan, probes

UNIT_TIMEOUT = 1200.0
"""Seconds without output from a machine that applies a unit (a slow mirror, a large clone)."""

REVERT_SECONDS = 30.0
"""Seconds within which a machine has reverted an unconfirmed change and accepts connections."""

FIX_AND_UP = "fix the cause, then invoke lab.up"


class UnreadableError(LabError):
    """The actual state of a resource is unknown, so that its unit was not applied."""


def inspect(host: Host, units: Sequence[Unit]) -> tuple[UnitPlan, ...]:
    """Compare units with the actual state of their machine, in one round trip."""
    return plan(host.name, units, host.gather(probes(units))).units


def inspect_unit(host: Host, unit: Unit) -> UnitPlan:
    """Compare one unit with the actual state of its machine."""
    return inspect(host, [unit])[0]


def apply_unit(
    host: Host, unit_plan: UnitPlan, *, hint: str = FIX_AND_UP, timeout: float = UNIT_TIMEOUT
) -> tuple[str, ...]:
    """Apply one unit as one transaction on its machine; an empty plan sends nothing.

    Args:
        timeout: seconds without output from the machine.

    Returns:
        The names of the changed resources, or ``reload SERVICE`` when only the service had to
        load its files.

    Raises:
        UnreadableError: what of the actual state could not be read.
        LabError: which step failed, its output, and what the machine runs now.
    """
    if unit_plan.empty:
        return ()
    unit = unit_plan.unit
    for item in unit_plan.unreadable:
        what = f"{host.name}: {item.resource.name} is not readable: {item.reason}"
        raise UnreadableError(what, "invoke lab.check names the root cause; " + hint)
    result = send(host, unit.name, unit_plan.request(), hint=hint, timeout=timeout)
    host.copies += result.kept
    if unit.confirm and unit_plan.changes:
        _confirm(host, unit)
    names = tuple(change.resource.name for change in unit_plan.changes)
    if result.activated and not names:
        names = (f"{result.activated} {unit.service}",)
    return names


def send(
    host: Host,
    name: str,
    request: UnitRequest,
    *,
    hint: str = FIX_AND_UP,
    timeout: float = UNIT_TIMEOUT,
) -> UnitResponse:
    """Send one transaction to a machine.

    Args:
        name: of the unit, for messages.

    Raises:
        LabError: which step failed, its output, and what the machine runs now.
    """
    response = host.apply(request, timeout)
    if response.ok:
        return response
    raise LabError(
        f"{host.name}: {name} failed at step {response.step!r}: {response.error}\n"
        + _state_after_failure(request.service, response),
        hint,
        output=response.output,
    )


def _state_after_failure(service: str, response: UnitResponse) -> str:
    if not response.restored:
        return response.after or "nothing had to be rolled back"
    text = f"rolled back: {', '.join(response.restored)}"
    if response.after:
        return f"{text}; {response.after}"
    return f"{text}; {service} keeps its previous configuration" if service else text


def _confirm(host: Host, unit: Unit) -> None:
    """Confirm a change over a new connection, which proves that one can still be made.

    Raises:
        LabError: when none can; the machine then reverts the change automatically.
    """
    host.log(f"confirming {unit.name} over a new connection")
    try:
        with Host(host.name, host.endpoint) as connection:
            if decode(Confirmation, connection.call(unit.confirm, {})).kept:
                return
        reason = "the confirmation came too late"
    except LabError as error:
        reason = f"a new connection failed ({error.what})"
    try:
        wait_until(lambda: _connects(host), REVERT_SECONDS, f"{host.name} to accept connections")
        outcome = f"{host.name} has reverted it and is reachable again"
    except Timeout:
        outcome = f"{host.name} has been unreachable since"
    raise LabError(
        f"{host.name}: the change of {unit.name} was reverted: {reason}; {outcome}",
        "invoke lab.plan shows the change; ssh_from in the topology lists who may reach sshd",
    )


def _connects(host: Host) -> bool:
    try:
        with Host(host.name, host.endpoint) as connection:
            connection.connect()
    except LabError:
        return False
    return True
