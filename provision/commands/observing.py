"""`lab.plan`, `lab.status` and `lab.check` after the machines began to start their agents.

A module of its own, so that roles and checks are imported in the meantime.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from provision import checks
from provision.checks.observation import Observation
from provision.checks.observe import observe
from provision.commands import show, show_checks
from provision.commands.base import Session, console, publish
from provision.commands.results import lab as results
from provision.core.errors import UsageError
from provision.core.suggestions import suggestion
from provision.core.waiting import timeout_factor
from provision.database.failover import control as failover
from provision.engine.converge import plans
from provision.engine.fleet import Fleet
from provision.services.haproxy import traffic

ADOPT_SECONDS = 4.0 * timeout_factor()
"""For the databases to tell lab.check which one automatic failover has promoted."""


def plan(session: Session, fleet: Fleet, states: Mapping[str, str]) -> bool:
    """Print what lab.up would change; returns whether it is anything."""
    context = failover.adopt(session.context, fleet)
    planned = plans(fleet, context.desired_of(fleet.hosts))
    text, count = show.plans(planned)
    overrides = traffic.overrides(context)
    publish(
        results.PlanValues(
            count=count,
            machines=[show.plan_values(n, state, planned.get(n)) for n, state in states.items()],
            overrides=list(overrides),
        )
    )
    print(context.secrets.redact(text))
    if overrides:
        print("recorded, and kept by lab.up:")
        print("\n".join(f"    {line}" for line in overrides))
    down = [name for name in states if name not in planned]
    for name in down:
        print(f"{name}: {states[name]}; lab.up starts it")
    return bool(count or down)


def status(session: Session, fleet: Fleet, states: Mapping[str, str]) -> None:
    """Print machines, services and replication."""
    context, observation, screen = session.context, Observation(states), console()
    if fleet.hosts:
        context = failover.adopt(context, fleet)
        observation = observe(
            context, fleet, states, with_requests=False, probes_of=checks.status_probes
        )
    values = show.status_values(context, observation)
    if not publish(values):
        show.status(screen, context, observation, values)


def check(session: Session, fleet: Fleet, only: str) -> bool:
    """Print the results of all checks, or of those with this in their names; whether all are ok.

    Raises:
        UsageError: when no check has such a name.
    """
    context, screen = failover.adopt(session.context, fleet, ADOPT_SECONDS), console()
    observation = observe(context, fleet, session.machine_states())
    judged = checks.judge(context, observation)
    selected = [result for result in judged if only in result.check.name]
    if not selected:
        words = {word for result in judged for word in re.split(r"[^\w-]+", result.check.name)}
        what = f"no check has {only!r} in its name{suggestion(only, words)}"
        raise UsageError(what, "invoke lab.check lists all checks")
    if not publish(show_checks.check_values(judged, only)):
        show_checks.print_checks(screen, judged, only)
    return all(result.ok for result in selected)
