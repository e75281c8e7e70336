"""`lab.clean`: restore existing machines (provider ssh) to their original state."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from provision.commands.base import open_session, publish, task
from provision.commands.progress import Progress
from provision.commands.results import lab as results
from provision.core.errors import UsageError
from provision.core.hints import for_lab
from provision.engine.agent.originals import CleanupPlan
from provision.operations.original_state import clean_up, plan_cleanup, plan_lines
from provision.topology import labs


@task(result=results.Cleanup, help={"yes": "do it; by default only the plan is shown"})
def clean(c: Any, lab: str = "", yes: bool = False) -> None:
    """Remove the lab from existing machines.

    Provider ssh. Without --yes, only the plan is shown.
    """
    session = open_session(lab)
    if session.provider.name != "ssh":
        raise UsageError(
            f"provider {session.provider.name} created the machines of lab {session.lab.name}",
            "invoke lab.destroy removes them",
        )
    with session.lock(), session.fleet() as fleet:
        unreachable = [m.name for m in session.lab.machines if m.name not in fleet.hosts]
        if unreachable:
            raise UsageError(
                f"not reachable: {', '.join(unreachable)}; all machines are cleaned together",
                "invoke lab.status",
            )
        plans = plan_cleanup(session.context, fleet)
        lines = [line for name, plan in plans.items() for line in plan_lines(name, plan)]
        publish(results.Cleanup(plan=lines, changed=False))
        print("\n".join(lines))
        if not yes:
            next_command = for_lab("invoke lab.clean --yes", session.lab.name)
            print(f"\nnothing was changed; next: {next_command}")
            return
        with Progress() as report:
            fleet.report = report
            clean_up(session.context, fleet, _recorded(plans))
        sys.stdout.flush()
        after = plan_cleanup(session.context, fleet)
    remaining = _recorded(after)
    if remaining:
        raise UsageError(f"files of the lab remain on {', '.join(remaining)}", "invoke lab.clean")
    labs.delete_directory(session.lab)
    publish(results.Cleanup(plan=lines, changed=True))
    print(f"lab {session.lab.name} is removed; its machines are in their original state")


def _recorded(plans: Mapping[str, CleanupPlan]) -> list[str]:
    return [name for name, plan in plans.items() if plan.recorded]
