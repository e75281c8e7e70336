"""`class.up`, `class.status`, `class.sheet`: the labs of a class."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from provision import providers
from provision import topology as topologies
from provision.classroom import capacity, definition, planning
from provision.classroom import sheet as sheets
from provision.classroom import status as class_status
from provision.classroom.capacity import SharedResource
from provision.classroom.definition import Definition
from provision.classroom.running import Words, at_once
from provision.classroom.status import TeamStatus
from provision.commands import class_runs, tables
from provision.commands.base import console, number, open_session, publish, task
from provision.commands.results import classroom as results
from provision.core import classroom
from provision.core.atomic import write_atomically
from provision.core.classroom import Class, Team
from provision.core.errors import LabError
from provision.core.lab import ROOT, Topology
from provision.core.limits import Limits
from provision.core.secrets import Secrets
from provision.operations import snapshot_archive as archive
from provision.providers.image_recipe import USER

START = "class-start"
"""The snapshot of each lab to which class.reset returns."""

LAYOUT = tables.layout(
    "class.status",
    tables.Column("TEAM"),
    tables.Column("LAB", 4),
    tables.Column("STATE"),
    tables.Column("MACHINES", 5),
    tables.Column("MEMBER", 3),
    tables.Column("DRILL", 1),
    tables.Column("LEFT", 2, right=True),
    tables.Column("HINTS", 7, right=True),
    tables.Column("SOLVED", 6, right=True),
    tables.Column("SITE", 8),
    tables.Column("PROBLEM", prose=True),
)


@task(
    result=results.ClassStatus,
    positional=["file"],
    help={
        "file": "a class file, or a number of teams (default: the class that exists)",
        "topology": "with a number of teams: their topology (default: distributed)",
        "network": "with a number of teams: the labs' networks are parts of it (default: "
        f"{definition.POOL})",
        "prefix": "with a number of teams: the labs' names start with it (default: none)",
        "parallel": "labs to bring up at a time (default: one per processor)",
    },
)
def up(
    c: Any,
    file: str = "",
    topology: str = "",
    network: str = "",
    prefix: str = "",
    parallel: str = "",
) -> None:
    """Bring up a lab for every team of a class.

    A second run brings up what is missing.
    """
    limit = int(number(parallel, "--parallel", 1, 100)) if parallel else 0
    with class_runs.locked():
        existing = classroom.load()
        wanted = _wanted(file, existing, topology, network, prefix)
        record = planning.plan(wanted, existing, ROOT) if wanted else existing
        assert record is not None
        statuses = {s.team.name: s for s in class_status.of_teams(record.teams, ROOT)}
        missing = [team for team in record.teams if _unfinished(statuses[team.name])]
        _require_room(record, wanted, missing, len(record.teams) - len(missing))
        record = planning.issue(record, ROOT)
        classroom.save(record)
        print(
            f"{record.title}: {len(record.teams)} teams, {len(missing)} labs to bring up, "
            f"{at_once(len(missing), limit)} at a time"
        )
        runs = class_runs.run(
            missing, lambda team: _up_tasks(record, statuses[team.name]), parallel=limit
        )
    _show_status(record)
    class_runs.require_success(runs, "invoke class.up finishes what is missing")
    print(f"\nnext: invoke class.sheet    # {len(record.teams)} access sheets")


def _wanted(
    file: str, existing: Class | None, topology: str, network: str, prefix: str
) -> Definition | None:
    """The definition of the class; None for the recorded one, which was made from a number."""
    if not file and existing is None:
        classroom.require()  # raises: there is no class yet
    if not file and existing is not None and not existing.file:
        return None
    return definition.of(
        file or (existing.file if existing else ""),
        topology=topology or (existing.topology if existing and file.isdecimal() else ""),
        network=network,
        prefix=prefix,
    )


def _unfinished(status: TeamStatus) -> bool:
    directory = ROOT / ".lab" / status.team.lab
    return status.state != class_status.UP or START not in archive.names(directory)


def _require_room(
    record: Class, wanted: Definition | None, missing: Sequence[Team], running: int
) -> None:
    """Refuse labs that the host has no room for; nothing was changed."""
    provider, _ = providers.choose(record.provider, None)
    topology = wanted.topology if wanted else topologies.load(topologies.find(record.topology))
    where = {"lxc": "this host", "incus": "Incus"}.get(provider.name)
    if not missing or topology is None or where is None:
        return
    needs = _needs(topology, record.limits, provider.name)
    capacity.require_room(len(missing), running, needs, where)
    fits = min((r.fits for r in needs if r.fits is not None), default=0)
    print(f"{where} has room for {fits} more labs of topology {topology.name}")


def _needs(topology: Topology, limits: Limits, provider: str) -> tuple[SharedResource, ...]:
    """What one lab needs, and what there is where the provider makes it."""
    if provider == "incus":
        from provision.providers.incus import placement

        return capacity.in_members(topology, limits, placement.available_mib())
    from provision.providers.lxc import paths, sysctls
    from provision.setup.host_os import free_mib

    room = capacity.read_room(free_mib(paths.HOST), sysctls.MINIMUM)
    return capacity.resources(topology, limits, room)


def _up_tasks(record: Class, status: TeamStatus) -> list[Words]:
    """The tasks that bring a team's lab up from its present state."""
    directory = ROOT / ".lab" / status.team.lab
    tasks: list[Words] = []
    if status.state == "restoring":
        tasks.append(["lab.restore", status.snapshot])
    elif status.drill is not None:  # lab.up would undo the fault
        tasks += [["lab.start", machine] for machine in status.off]
    elif status.state != class_status.UP:
        words = ["lab.up", "--topology", record.topology, "--network", status.team.network]
        tasks.append([*words, *(["--provider", record.provider] if record.provider else [])])
    taken = START in archive.names(directory)
    if taken and status.state == "absent":  # of machines that are gone, as its drill's were
        tasks.append(["lab.snapshot", START, "--delete"])
        taken = False
    if not taken and status.drill is None:
        tasks.append(["lab.snapshot", START, "--note", "class.reset returns to it"])
    return tasks


@task(result=results.ClassStatus)
def status(c: Any) -> None:
    """Show the labs of the class, and their drills."""
    _show_status(classroom.require())


def _show_status(record: Class) -> None:
    statuses = class_status.of_teams(record.teams, ROOT)
    values = results.ClassStatus(
        title=record.title,
        topology=record.topology,
        course=record.course,
        class_labs=[_lab_values(status) for status in statuses],
    )
    if publish(values):
        return
    rows = [
        [
            lab["team"],
            lab["lab"],
            lab["state"],
            f"{lab['running']} of {lab['machines']}",
            lab["member"],
            lab["drill"],
            "" if lab["minutes_left"] is None else f"{lab['minutes_left']:.0f} min",
            str(lab["hints"]) if lab["drill"] else "",
            str(lab["drills_solved"]) if lab["drills_solved"] else "",
            lab["url"],
            lab["problem"],
        ]
        for lab in values["class_labs"]
    ]
    tables.show(console(), LAYOUT, rows)


def _lab_values(status: TeamStatus) -> results.ClassLab:
    drill = status.drill
    return results.ClassLab(
        team=status.team.name,
        lab=status.team.lab,
        network=status.team.network,
        url=status.url,
        state=status.state,
        running=status.running,
        machines=status.machines,
        member=status.member,
        problem=status.problem,
        drill=drill.drill if drill else "",
        minutes_left=round(drill.seconds_left / 60, 1) if drill else None,
        hints=drill.hints if drill else 0,
        drills_solved=status.solved,
    )


@task(
    result=results.ClassSheet,
    help={
        "url": "of the board, which the sheets name (default: none)",
        "jump": "user@host through which the teams' computers reach the machines by SSH (default: "
        "they are on the controller)",
        "write": "the file (default: .lab/.class/sheets.html)",
        "team": "only these teams, separated by commas (default: all)",
    },
)
def sheet(c: Any, url: str = "", jump: str = "", write: str = "", team: str = "") -> None:
    """Write a printable page with every team's access.

    It has the URL of the board, the code, and the SSH command and key.
    """
    record = classroom.require()
    teams = class_runs.chosen(record, team)
    pages = [_sheet(record, member, url, jump) for member in teams]
    path = Path(write) if write else classroom.folder() / "sheets.html"
    write_atomically(path, sheets.page(f"{record.title}: access", pages))
    publish(results.ClassSheet(file=str(path), teams=[member.name for member in teams]))
    print(f"{path}: {len(pages)} pages; it holds codes and private keys, and only you can read it")


def _sheet(record: Class, team: Team, url: str, jump: str) -> sheets.Sheet:
    try:
        session = open_session(team.lab)
        key = Secrets(session.lab.directory).team_key().read_text(encoding="utf-8")
    except LabError as error:
        raise LabError(f"team {team.name}: {error.what}", "invoke class.up") from None
    endpoints: dict[str, Any] = {}
    with contextlib.suppress(LabError):
        endpoints = dict(session.provider.endpoints(session.lab))
    return sheets.Sheet(
        title=record.title,
        team=team.name,
        lab=session.lab,
        code=team.code,
        user=next((endpoint.user for endpoint in endpoints.values()), USER),
        key=key,
        host_keys={name: endpoint.host_key for name, endpoint in endpoints.items()},
        board=url,
        jump=jump,
    )
