"""The record of a class from its definition: new teams get a lab, a network and a code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from provision import topology as topologies
from provision.classroom.definition import Definition, with_limits
from provision.core import classroom
from provision.core import state as states
from provision.core.access_codes import TEACHER, TEAM, access_code
from provision.core.classroom import Class, Team
from provision.core.errors import UsageError
from provision.core.lab import Lab, Topology
from provision.core.secrets import Secrets
from provision.topology import networks


def plan(definition: Definition, existing: Class | None, root: Path) -> Class:
    """The desired class. Teams that exist keep their lab, network and code.

    Nothing is written; new teams have no code yet (`issue`).

    Raises:
        LabError: when the class that exists is another one, or a lab or no network is free.
    """
    topology = definition.topology
    assert topology is not None
    known = {team.name: team for team in existing.teams} if existing else {}
    reference = topologies.reference(topology, root)
    if existing is not None:
        _require_same(existing, reference, definition)
    new = [name for name in definition.seeds if name not in known]
    _require_unused([definition.lab(name) for name in new], root)
    free = free_networks(definition.pool, topology, known.values(), root)
    places = dict(zip(new, free, strict=False))
    if len(places) < len(new):
        raise UsageError(
            f"{definition.pool} has free networks for {len(places)} more labs, and {len(new)} are "
            "needed",
            "network: 10.0.0.0/16 in the class file, or --network, is another pool",
        )
    teams = []
    for name, seed in definition.seeds.items():
        old = known.get(name)
        new_team = Team(name, definition.lab(name), str(places.get(name, "")), "", seed)
        teams.append(replace(old, seed=seed) if old else new_team)
    return Class(
        title=definition.title,
        topology=reference,
        teams=tuple(teams),
        code=existing.code if existing else "",
        provider=definition.provider,
        course=definition.course,
        file=definition.file,
        limits=with_limits(definition).limits,
    )


def issue(record: Class, root: Path) -> Class:
    """The class with a key and a code of every team, and the teacher's code.

    Those of a lab that was destroyed are new.
    """
    teams = []
    for team in record.teams:
        directory = root / ".lab" / team.lab
        Secrets(directory).team_key()
        teams.append(replace(team, code=access_code(directory, TEAM)))
    code = access_code(classroom.folder(root), TEACHER)
    return replace(record, teams=tuple(teams), code=code)


def _require_same(existing: Class, topology: str, definition: Definition) -> None:
    """Refuse to turn one class into another one, or to forget labs that exist."""
    if existing.topology != topology:
        raise UsageError(
            f"the class has topology {existing.topology}, and its labs exist",
            f"invoke class.each -- lab.up --topology {topology}, or first: "
            "invoke class.destroy --yes",
        )
    gone = [team.name for team in existing.teams if team.name not in definition.seeds]
    if gone:
        teams = ", ".join(gone)
        raise UsageError(
            f"the class has teams that are not among the new ones: {teams}",
            f"invoke class.destroy --team '{gone[0]}' --yes removes a team with its lab",
        )


def _require_unused(labs: Iterable[str], root: Path) -> None:
    existing = [lab for lab in labs if (root / ".lab" / lab / states.FILE).exists()]
    if existing:
        raise UsageError(
            f"there are labs of that name that are of no class: {', '.join(existing)}",
            f"prefix: in the class file, or --prefix, gives other names; or "
            f"invoke lab.destroy --lab {existing[0]}",
        )


def free_networks(
    pool: IPv4Network, topology: Topology, teams: Iterable[Team], root: Path
) -> Iterator[IPv4Network]:
    """Networks for labs of a topology that nothing on this host uses, in ascending order."""
    used = list(networks.used_networks(Lab("", root, topology)))
    used += [IPv4Network(team.network) for team in teams]
    for candidate in pool.subnets(new_prefix=24):
        if not any(candidate.overlaps(network) for network in used):
            yield IPv4Network((candidate.network_address, topology.network.prefixlen))
