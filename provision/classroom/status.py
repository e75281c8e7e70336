"""The status of the labs of a class."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from provision import providers
from provision.core import interrupted_restore
from provision.core.classroom import Team
from provision.core.errors import LabError
from provision.core.files import read_text
from provision.core.hints import for_lab
from provision.core.parallel import for_each
from provision.drills.run import DrillRun, of_lab
from provision.operations.up import has_served
from provision.topology.labs import open_lab

UP = "up"


@dataclass(frozen=True)
class TeamStatus:
    """The lab of one team.

    Args:
        state: ``up``, ``absent``, ``incomplete``, ``halted``, ``degraded``, ``restoring`` or
            ``unknown``.
        url: of its site; empty while there is no lab.
        running: how many of its machines run.
        problem: what is wrong, and the next command; empty when it is up.
        off: machines that do not run.
        snapshot: whose restore was interrupted; empty when none was.
        member: of the cluster, that has its machines; empty without a cluster.
        drills: all its runs, the oldest first.
    """

    team: Team
    state: str
    url: str = ""
    running: int = 0
    machines: int = 0
    problem: str = ""
    drills: tuple[DrillRun, ...] = ()
    off: tuple[str, ...] = ()
    snapshot: str = ""
    member: str = ""

    @property
    def drill(self) -> DrillRun | None:
        """The drill that runs."""
        last = self.drills[-1:]
        return last[0] if last and last[0].ended is None else None

    @property
    def solved(self) -> int:
        """How many drills were solved, each counted once."""
        return len({run.drill for run in self.drills if run.solved is not None})


def of_teams(teams: Iterable[Team], root: Path) -> list[TeamStatus]:
    """The status of several teams' labs, in their order. No machine is logged in to."""
    by_name = {team.name: team for team in teams}
    return list(for_each(by_name, lambda name: of_team(by_name[name], root)).values())


def of_team(team: Team, root: Path) -> TeamStatus:
    """The status of one team's lab."""
    directory = root / ".lab" / team.lab
    member = ""
    try:
        lab, state = open_lab(team.lab, root=root)
        if state is None:
            return TeamStatus(team, "absent", problem="invoke class.up brings it up")
        provider = providers.for_state(state)
        member = provider.member(lab)
        by_machine = provider.state(lab)
    except LabError as error:
        hint = for_lab(error.hint, team.lab)
        problem = "; ".join(filter(None, (error.what.splitlines()[0], hint)))
        return TeamStatus(team, "unknown", problem=problem, member=member)
    runs: tuple[DrillRun, ...] = ()
    with contextlib.suppress(LabError):
        runs = of_lab(directory)
    off = tuple(name for name, value in by_machine.items() if value != "running")
    running = len(by_machine) - len(off)
    status, problem = UP, ""
    snapshot = (read_text(directory / interrupted_restore.FILE) or "").strip()
    if snapshot:
        status, problem = "restoring", f"invoke lab.restore --lab {team.lab} {snapshot} finishes it"
    elif state.target or not has_served(lab):
        status, problem = "incomplete", "invoke class.up continues"
    elif all(value == "absent" for value in by_machine.values()):
        status, problem = "absent", "its machines are gone: invoke class.up makes new ones"
    elif not running:
        status, problem = "halted", "invoke class.up starts it"
    elif off:
        status, problem = "degraded", ", ".join(f"{name} is {by_machine[name]}" for name in off)
    count = len(by_machine)
    present = member if status != "absent" else ""
    return TeamStatus(team, status, lab.url, running, count, problem, runs, off, snapshot, present)
