"""The steps of `lab.up`: preflight, change of topology, boot, converge, check.

A step that prints gets its output function as an argument; `commands/bring_up.py` composes the
steps.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from provision import checks, registry
from provision import topology as topology_files
from provision.checks import drift
from provision.checks.observe import observe
from provision.core import state
from provision.core.errors import LabError, ProviderError
from provision.core.lab import Lab
from provision.core.report import Report
from provision.core.ssh_config import write_ssh_config
from provision.core.state import State
from provision.core.waiting import Timeout, timeout_factor, wait_until
from provision.database.failover import control as failover
from provision.database.failover import feature, saved
from provision.database.rejoin import rejoin_errant
from provision.engine.apply import UnreadableError
from provision.engine.context import Context
from provision.engine.converge import Outcome, converge
from provision.engine.fleet import Fleet
from provision.operations import power_cuts
from provision.operations.session import Session
from provision.providers.base import PreflightProblem, Provider
from provision.providers.package_pool import open_pool
from provision.services.app import releases
from provision.services.tls.clock import check_clocks
from provision.topology import labs

CHECK_DEADLINE = 20.0 * timeout_factor()
"""Seconds for the checks to pass after a change: two health checks, a replica catching up."""


def require_ready(lab: Lab, provider: Provider) -> list[PreflightProblem]:
    """The notes of the provider's preflight.

    Raises:
        ProviderError: when the host lacks something that the provider needs.
    """
    problems = provider.preflight(lab)
    fatal = [problem for problem in problems if problem.fatal]
    if fatal:
        raise ProviderError(
            f"this host is not ready for lab {lab.name} with provider {provider.name}:\n"
            + "\n".join(f"  - {problem.what}\n    fix: {problem.hint}" for problem in fatal)
        )
    return [problem for problem in problems if not problem.fatal]


def adopt_failover(new: Lab, recorded: State, provider: Provider) -> State:
    """The record with an automatic failover that happened before this change of topology."""
    reference = topology_files.reference(new.topology, new.root)
    if not recorded.autopromote or recorded.current_topology == reference:
        return recorded  # without a change, `configure` adopts it
    try:
        old, _ = labs.open_lab(new.name, root=new.root)
        with Session(old, recorded, provider).fleet() as fleet:
            return failover.adopt(registry.context(old, recorded), fleet).state
    except LabError:
        return recorded  # no machine runs, or the old topology cannot be read any more


def turn_off_failover(old: Session, new: Lab) -> State:
    """Turn automatic failover off before one of its members is removed or replaced."""
    before, after = (tuple(m.name for m in feature.members(lab)) for lab in (old.lab, new))
    if not old.state.autopromote or before == after:
        return old.state
    if "running" not in old.machine_states().values():
        return state.change(old.lab.directory, autopromote=False)
    with old.fleet() as fleet:
        return failover.turn_off_for_topology_change(old.context, fleet).state


def boot(session: Session, report: Report) -> Fleet:
    """Start all machines; returns them, not yet connected."""
    lab, context = session.lab, session.context
    packages = {machine.name: context.packages(machine) for machine in lab.machines}
    endpoints = session.provider.up(lab, report, packages)
    power_cuts.forget(lab.directory, endpoints)
    write_ssh_config(lab, endpoints)
    problem = session.provider.network_problem(lab)
    if problem:
        raise ProviderError(f"refusing to connect to {lab.network}: {problem}", "invoke lab.up")
    return Fleet(lab, endpoints, pool=open_pool())


@dataclass(frozen=True)
class Converged:
    """The outcome per machine, and the context it was reached with.

    Args:
        saved: where the errant transactions of a database server are that was cloned since.
    """

    context: Context
    outcomes: tuple[Outcome, ...]
    saved: tuple[str, ...] = ()

    @property
    def errors(self) -> list[LabError]:
        """Why machines were not configured completely."""
        return [outcome.error for outcome in self.outcomes if outcome.error is not None]


def configure(session: Session, fleet: Fleet, report: Report) -> Converged:
    """Converge all machines; look at `Converged.errors` before calling it a success."""
    fleet.start()
    recorded = failover.adopt(session.context, fleet).state
    context = registry.context(session.lab, recorded, rolling=has_served(session.lab))
    fleet.report = report
    check_clocks(context, fleet)
    moved = saved.collect(context, fleet)
    units = context.desired_of(fleet.hosts)
    outcomes = converge(fleet, units)
    rejoined, errors = rejoin_errant(context, fleet, failed_replicas(context, outcomes))
    if rejoined:
        first, outcomes = outcomes, converge(fleet, units)
        outcomes = {name: _joined(first[name], again) for name, again in outcomes.items()}
    outcomes |= {name: replace(outcomes[name], error=error) for name, error in errors.items()}
    releases.remove_undeployed(context)
    lines = (*(done.summary for done in rejoined), *moved)
    return Converged(context, tuple(outcomes.values()), lines)


def unchanged(
    session: Session, fleet: Fleet, report: Report
) -> tuple[Converged | None, tuple[checks.CheckResult, ...], Context]:
    """Look whether the lab is as it should be: the plan and the checks, in one round trip.

    Returns:
        None, and no results, when anything differs, fails or is unknown: converge it then. The
        context has the notes of the authority about certificates that it issued again.
    """
    started = time.monotonic()
    context = registry.context(session.lab, session.state, rolling=True)
    fleet.report = report
    for name in fleet.hosts:
        report(name, "reading its state")
    observation = observe(context, fleet, session.machine_states())
    judged = checks.judge(context, observation)
    settled = all(result.settled for result in judged)
    if not settled or not drift.no_difference(context, observation):
        return None, (), context
    releases.remove_undeployed(context)
    outcomes = []
    for name, host in fleet.hosts.items():
        host.log("unchanged")
        count = sum(len(u.resources) for u in context.desired(context.lab.machine(name)))
        outcomes.append(Outcome(name, (), count, time.monotonic() - started, host.round_trips))
    return Converged(context, tuple(outcomes)), judged, context


def failed_replicas(context: Context, outcomes: Mapping[str, Outcome]) -> list[str]:
    """The replicas that could not be configured, perhaps because of errant transactions.

    Those of a server that does not respond cannot be read either.
    """
    databases = [m.name for m in context.lab.with_role("mysql") if m.name != context.state.primary]
    errors = {name: outcomes[name].error for name in databases if name in outcomes}
    return [
        name
        for name, error in errors.items()
        if error is not None and not isinstance(error, UnreadableError)
    ]


def _joined(first: Outcome, second: Outcome) -> Outcome:
    """The outcome of two runs."""
    return replace(
        second,
        changed=tuple(dict.fromkeys([*first.changed, *second.changed])),
        seconds=first.seconds + second.seconds,
        round_trips=first.round_trips + second.round_trips,
        copies=(*first.copies, *second.copies),
    )


def check_until_ok(
    context: Context, fleet: Fleet, provider: Provider, report: Report
) -> tuple[checks.CheckResult, ...]:
    """Run the checks until all pass or `CHECK_DEADLINE` is over; returns the last results."""
    results: Sequence[checks.CheckResult] = ()

    def all_ok() -> bool:
        nonlocal results
        observation = observe(context, fleet, provider.state(context.lab))
        results = checks.judge(context, observation)
        waiting = [cause.result for cause in checks.root_causes(results)]
        waiting += [result for result in results if result.status == "warning"]
        first = next((result.check for result in waiting if not result.settled), None)
        if first is not None:
            report(first.machine, f"waiting for {first.name}")
        return first is None

    with contextlib.suppress(Timeout):
        wait_until(all_ok, CHECK_DEADLINE, "the checks to pass", interval=0.5)
    return tuple(results)


def has_served(lab: Lab) -> bool:
    """Whether the lab passed its checks once, so that servers must not restart all at once."""
    return (lab.directory / "served").exists()


def record_served(lab: Lab) -> None:
    """Record that all checks have passed."""
    (lab.directory / "served").touch()
