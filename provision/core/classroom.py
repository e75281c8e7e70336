"""The record of a class: its teams with their labs, access codes and keys.

``.lab/.class/class.json`` (mode 0600) is written by ``class.up``. A checkout has one class at most.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from provision.core.atomic import write_atomically
from provision.core.errors import LabError, UsageError, not_among
from provision.core.files import read_private
from provision.core.lab import LAB_NAME, ROOT, Lab
from provision.core.limits import Limits
from provision.core.secrets import TEAM_KEY

VERSION = 1
FOLDER = Path(".lab/.class")
"""In the checkout; its name cannot be that of a lab."""

FILE = "class.json"


@dataclass(frozen=True)
class Team:
    """A team and its lab.

    Args:
        lab: the name of its lab.
        network: of its lab, such as ``10.60.1.0/24``.
        code: what a member types to open the team's page.
        seed: of its drills.
    """

    name: str
    lab: str
    network: str
    code: str
    seed: str

    def key(self, root: Path = ROOT) -> Path:
        """The team's private SSH key, authorized on the machines of its own lab only.

        It exists once `class.up` has begun to bring the team's lab up.
        """
        return root / ".lab" / self.lab / "secrets" / TEAM_KEY


@dataclass(frozen=True)
class Class:
    """A class.

    Args:
        topology: a name in ``configs/topologies``, or the path of a file.
        provider: of all labs; empty for the default one.
        course: the path of the file with the drills; empty without.
        code: what the teacher types to open the teacher's page.
        file: the class file, or empty when it was made from a number.
    """

    title: str
    topology: str
    teams: tuple[Team, ...]
    code: str
    provider: str = ""
    course: str = ""
    file: str = ""
    limits: Limits = field(default_factory=Limits)
    version: int = VERSION

    def team(self, name: str) -> Team:
        """The team with a name.

        Raises:
            UsageError: when there is none.
        """
        for team in self.teams:
            if team.name == name:
                return team
        names = [team.name for team in self.teams]
        raise not_among(f"unknown team {name!r}", name, names)

    def of_lab(self, lab: str) -> Team | None:
        """The team that a lab belongs to; None for another lab."""
        return next((team for team in self.teams if team.lab == lab), None)

    def without(self, names: tuple[str, ...]) -> Class:
        """The class without some of its teams."""
        return replace(self, teams=tuple(t for t in self.teams if t.name not in names))


def folder(root: Path = ROOT) -> Path:
    """The folder of a checkout's class."""
    return root / FOLDER


def load(root: Path = ROOT) -> Class | None:
    """The class of a checkout; None when there is none.

    Raises:
        LabError: when the record is damaged, or accessible to others.
    """
    path = folder(root) / FILE
    text = read_private(path)
    if text is None:
        return None
    try:
        return _parse(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise LabError(
            f"{path} is damaged: {error}",
            f"restore it from a copy; or rm {shlex.quote(str(path))}, then remove the labs: "
            "invoke lab.list",
        ) from None


def limits_of(lab: Lab) -> Limits:
    """The limits of a lab: its class's, and where that has none its topology's.

    Raises:
        LabError: when the record of the class is damaged.
    """
    record = load(lab.root)
    if record is not None and record.of_lab(lab.name):
        return record.limits.over(lab.topology.limits)
    return lab.topology.limits


def require(root: Path = ROOT) -> Class:
    """The class of a checkout.

    Raises:
        UsageError: when there is none.
    """
    loaded = load(root)
    if loaded is None:
        raise UsageError("there is no class yet", "invoke class.up FILE, or a number of teams")
    return loaded


def save(value: Class, root: Path = ROOT) -> None:
    """Write the record atomically."""
    directory = folder(root)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(directory / FILE, json.dumps(asdict(value), indent=2) + "\n")


def _parse(data: Mapping[str, Any]) -> Class:
    if data["version"] != VERSION:
        raise ValueError(f"its version is {data['version']}, and this checkout reads {VERSION}")
    teams = tuple(Team(**_texts(Team, team)) for team in data["teams"])
    for team in teams:
        IPv4Network(team.network)
        if not LAB_NAME.fullmatch(team.lab):
            raise ValueError(f"invalid lab name {team.lab!r}")
    limits = {name: int(value) for name, value in data["limits"].items()}
    others = {k: v for k, v in data.items() if k not in ("teams", "limits", "version")}
    texts = [f.name for f in fields(Class) if f.name in others]
    if {*others} != {*texts} or not all(isinstance(v, str) for v in others.values()):
        raise ValueError("a key is unknown, or its value is no string")
    return Class(teams=teams, limits=Limits(**limits), **others)


def _texts(kind: type[Team], data: Mapping[str, Any]) -> dict[str, str]:
    names = {f.name for f in fields(kind)}
    if {*data} != names or not all(isinstance(value, str) for value in data.values()):
        raise ValueError(f"a team is not exactly {', '.join(sorted(names))}")
    return dict(data)
