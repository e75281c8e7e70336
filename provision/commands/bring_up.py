"""`lab.up` after its arguments are known: change of topology, boot, converge, check, report.

A module of its own, so that the machines start their agents while roles and checks are imported.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from provision import checks
from provision.commands import show, show_checks
from provision.commands.base import Session, console, publish
from provision.commands.confirm_change import confirmed_change, remove_machines
from provision.commands.progress import Progress
from provision.commands.results import lab as results
from provision.commands.unfinished import unfinished_noted
from provision.core.errors import LabError, UsageError
from provision.core.lab import Lab
from provision.core.state import State
from provision.database import promote
from provision.engine.fleet import Fleet
from provision.operations import up as steps
from provision.operations.original_state import record_originals
from provision.providers.base import Provider
from provision.topology.record import record_lab, record_reached, record_target


@dataclass(frozen=True)
class OpenedLab:
    """A lab to bring up.

    Args:
        lab: the desired one.
        recorded: as it was brought up before; None for a new one.
        reason: why this provider was chosen.
    """

    lab: Lab
    recorded: State | None
    provider: Provider
    reason: str


def run(opened: OpenedLab, early: Fleet, *, yes: bool) -> None:
    """Bring the lab up; the caller has locked it.

    Args:
        early: connections to machines that run already (`begin_login`).
        yes: machines that are not in the new topology may be removed.
    """
    lab, recorded, provider = opened.lab, opened.recorded, opened.provider
    for note in steps.require_ready(lab, provider):
        print(f"note: {note.what}; {note.hint}", file=sys.stderr)
    if recorded is None:
        _require_no_leftovers(lab, provider)
        print(f"lab {lab.name}: provider {provider.name} ({opened.reason}), network {lab.network}")
    else:
        recorded = steps.adopt_failover(lab, recorded, provider)
    change = confirmed_change(lab, recorded, provider, yes)
    if change is None:
        return
    if recorded is not None:
        record_target(lab)
        with unfinished_noted(lab.directory):
            recorded = steps.turn_off_failover(Session(change.old, recorded, provider), lab)
            if change.intermediate is not None:
                _move_data(Session(change.intermediate, recorded, provider), lab)
    remove_machines(change, provider)
    session = Session(lab, record_lab(lab, provider.name), provider)
    with unfinished_noted(lab.directory):
        with Progress() as report:
            fleet = steps.boot(session, report)
        fleet.take_over(early)
        with fleet:
            if provider.name == "ssh":
                record_originals(session.context, fleet)
            ran_before = early.hosts.keys() >= {machine.name for machine in lab.machines}
            configured = configure(session, fleet, look_first=ran_before)
        record_reached(lab)
    publish(
        results.Up(
            **configured,
            topology=lab.topology.name,
            provider=provider.name,
            network=str(lab.network),
        )
    )


def _require_no_leftovers(lab: Lab, provider: Provider) -> None:
    """Refuse a new lab whose machines exist: their keys and passwords went with the old record.

    Raises:
        UsageError: naming them.
    """
    machines = provider.leftover_machines(lab)
    if machines:
        raise UsageError(
            f"lab {lab.name} is new, but {', '.join(machines)} of an earlier one in this folder "
            "still exist, and their keys were deleted",
            "invoke lab.destroy --yes removes them and their data; then invoke lab.up",
        )


def _move_data(intermediate: Session, new: Lab) -> None:
    """Replicate the data to a database machine of the new topology, and promote it."""
    old, target = intermediate.state.primary, new.topology.primary
    print(f"moving the data from {old} to {target}: {target} replicates it, then it is promoted")
    with Progress() as report:
        fleet = steps.boot(intermediate, report)
    with fleet:
        configure(intermediate, fleet)
        promotion = promote.promote(intermediate.context, fleet, target)
    print(f"{promotion.new} is primary; writes were interrupted for {promotion.seconds:.1f} s\n")


def configure(session: Session, fleet: Fleet, *, look_first: bool = False) -> results.Configured:
    """Converge, check, print and publish the results.

    Args:
        look_first: whether the lab may be as it should be already (`steps.unchanged`).

    Raises:
        LabError: when a machine could not be configured, or a check fails.
    """
    checked: tuple[checks.CheckResult, ...] = ()
    notes: list[str] = []
    with Progress() as report:
        screen = console()
        converged = None
        if look_first and steps.has_served(session.lab):
            converged, checked, seen = steps.unchanged(session, fleet, report)
            notes = seen.authority.notes
        if converged is None:
            converged = steps.configure(session, fleet, report)
    outcomes = [show.outcome_values(outcome) for outcome in converged.outcomes]
    values = results.Configured(url=f"{session.lab.url}/", machines=outcomes)
    publish(values)
    show.outcomes(screen, converged.outcomes)
    for line in show.copies(converged.outcomes):
        print(session.context.secrets.redact(line))
    for line in converged.saved:
        print(line)
    for note in dict.fromkeys([*notes, *converged.context.authority.notes]):
        print(f"note: {note}", file=sys.stderr)
    if converged.errors:
        raise LabError("\n\n".join(str(error) for error in converged.errors))
    if not checked:
        with Progress() as report:
            checked = steps.check_until_ok(converged.context, fleet, session.provider, report)
    values["checks"] = show_checks.check_values(checked)
    failed = [result for result in checked if result.status == "failed"]
    show_checks.print_checks(screen, checked, only_bad=True)
    if failed:
        hint = show_checks.hint_after_up(checked)
        causes = "; ".join(cause.text for cause in checks.root_causes(checked))
        raise LabError(f"{len(failed)} of {len(checked)} checks failed: {causes}", hint)
    lab = session.lab
    steps.record_served(lab)
    balancers = " or ".join(machine.name for machine in lab.with_role("haproxy"))
    print(f"\n{lab.url}/ is {lab.site}, through {balancers or lab.front.name}")
    return values
