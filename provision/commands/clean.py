"""`lab.clean`: machines that exist without the lab become what they were before it."""

from __future__ import annotations

import sys
from typing import Any

from provision.commands.base import session, task
from provision.commands.progress import Progress
from provision.core.errors import UsageError
from provision.operations import clean as ops
from provision.topology import labs


@task(help={"yes": "do it; without it the plan is shown"})
def clean(c: Any, lab: str = "", yes: bool = False) -> None:
    """Remove what the lab put on machines that exist without it; first it shows the plan."""
    now = session(lab)
    if now.provider.name != "ssh":
        raise UsageError(
            f"the machines of lab {now.lab.name} were made for it (provider {now.provider.name})",
            "invoke lab.destroy removes them as a whole",
        )
    with now.lock(), now.fleet() as fleet:
        away = [m.name for m in now.lab.machines if m.name not in fleet.hosts]
        if away:
            raise UsageError(
                f"not reachable now: {', '.join(away)}; all are cleaned together",
                "invoke lab.status",
            )
        plans = ops.plan(now.context, fleet)
        print("\n".join(line for plan in plans for line in plan.lines()))
        if not yes:
            print("\nnothing was changed; to do it: invoke lab.clean --yes")
            return
        with Progress() as report:
            fleet.report = report
            ops.clean(now.context, fleet, [plan.machine for plan in plans if plan.known])
        sys.stdout.flush()
        after = ops.plan(now.context, fleet)
    left = [plan.machine for plan in after if plan.known]
    if left:
        raise UsageError(f"something is left on {', '.join(left)}", "invoke lab.clean")
    labs.erase(now.lab)
    print(f"lab {now.lab.name} is gone; its machines are as they were")
