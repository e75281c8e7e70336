"""Read a class file: teams, topology, drill course, limits. All its errors at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from pathlib import Path

from provision import topology as topologies
from provision.core.errors import LabError, TopologyError, UsageError
from provision.core.exit_status import ExitStatus
from provision.core.files import unreadable
from provision.core.lab import DEFAULT_LAB, LAB_NAME, Topology
from provision.core.limits import Limits
from provision.drills.course import TEAM, Course, load_course
from provision.providers import PROVIDERS
from provision.topology.checker import Checker
from provision.topology.limits import parse_limits
from provision.topology.nodes import Node, parse_yaml
from provision.topology.values import is_private

KEYS = ("title", "topology", "provider", "course", "network", "prefix", "limits", "teams")
EXAMPLE = "'teams: [red, blue]'"
TEAMS_EXAMPLE = "'[red, blue]', '{red: 17, blue: 42}', or a number"
MOST_TEAMS = 250
POOL = IPv4Network("10.77.0.0/16")
"""Networks of a class's labs by default, one /24 for each."""

PREFIX = re.compile(r"[a-z0-9][a-z0-9-]{0,9}")
OWN_PROVIDERS = tuple(name for name in PROVIDERS if name != "ssh")
"""Providers that create machines."""


@dataclass
class Definition:
    """The desired class, as its file or the command line describes it.

    Args:
        file: the class file; empty for a number of teams.
        seeds: of the drills, by the name of a team.
        pool: the labs' networks are parts of it.
    """

    file: str = ""
    title: str = "Class"
    topology: Topology | None = None
    provider: str = ""
    course: str = ""
    pool: IPv4Network = POOL
    prefix: str = ""
    limits: Limits = field(default_factory=Limits)
    seeds: Mapping[str, str] = field(default_factory=dict)

    def lab(self, team: str) -> str:
        """The name of a team's lab."""
        slug = re.sub(r"[^a-z0-9]+", "-", team.lower()).strip("-")
        return f"{self.prefix}{slug}"


def of(text: str, *, topology: str = "", network: str = "", prefix: str = "") -> Definition:
    """The definition that a command line asks for.

    Args:
        text: the path of a class file, or a number of teams.
        topology, network, prefix: with a number of teams only; empty for the defaults.

    Raises:
        LabError: with all errors of the file or of the options.
    """
    if not text.strip().lstrip("+-").isdecimal():
        if topology or network or prefix:
            raise UsageError(
                "--topology, --network and --prefix are for a number of teams",
                f"write them in {text}",
            )
        return load(Path(text))
    count = int(text)
    check = Checker("class.up")
    if not 1 <= count <= MOST_TEAMS:
        raise UsageError(f"a class of {count} teams", f"use a number from 1 to {MOST_TEAMS}")
    definition = Definition(seeds=numbered(count))
    definition.prefix = _prefix(check, Node(1, "string", prefix)) if prefix else ""
    definition.topology = _topology(check, Node(1, "string", topology or "distributed"))
    if network:
        definition.pool = _pool(check, Node(1, "string", network)) or POOL
    for team in definition.seeds:
        _check_lab(check, definition, team, 1)
    if check.errors:
        first = check.errors[0].removeprefix("class.up:1: ")
        raise UsageError(first, "invoke class.up --help")
    return definition


def numbered(count: int) -> dict[str, str]:
    """The teams of a class that is given by a number, such as ``team-01``."""
    width = max(2, len(str(count)))
    return {name: name for name in (f"team-{n:0{width}}" for n in range(1, count + 1))}


def load(path: Path) -> Definition:
    """Read a class file, its topology and its course.

    Raises:
        LabError: with all errors, one per line.
    """
    try:
        node = parse_yaml(path.read_bytes().decode("utf-8"), str(path))
    except TopologyError as error:
        raise LabError(
            error.what, f"a class file looks like {EXAMPLE}", status=ExitStatus.USAGE
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        hint = "invoke class.up FILE, or a number of teams"
        raise unreadable(f"the class file {path}", path, error, hint) from None
    check = Checker(str(path))
    definition = Definition(str(path.resolve()), path.stem)
    further: list[str] = []
    if check.mapping(node, "", EXAMPLE):
        entries = {name: value for name, _, value in check.keys(node, "", KEYS)}
        _parse_values(check, definition, entries)
        course = _course(check, path, entries.get("course"), definition, further)
        if "teams" in entries:
            definition.seeds = _teams(check, entries["teams"], definition)
        elif course is not None and course.teams:
            definition.seeds = dict(course.teams)
            for team in course.teams:
                _check_lab(check, definition, team, entries["course"].line)
        else:
            check.error(node.line, "teams", f"missing key; expected {TEAMS_EXAMPLE}")
        if course is not None:
            definition.seeds = _seeds(check, entries, definition.seeds, course)
    if check.errors or further:
        what = "\n".join([*check.errors, *further])
        hint = f"fix them, then invoke class.up {path} again"
        raise LabError(what, hint, status=ExitStatus.USAGE)
    return definition


def _parse_values(check: Checker, definition: Definition, entries: Mapping[str, Node]) -> None:
    """All keys but ``course`` and ``teams``."""

    def given(key: str, parse: Callable[[Node], object | None]) -> None:
        if key in entries and (value := parse(entries[key])) is not None:
            setattr(definition, key, value)

    given("title", lambda node: check.string(node, "title", "'Friday'"))
    given("provider", lambda node: check.choice(node, "provider", OWN_PROVIDERS, "provider"))
    if "prefix" in entries:
        definition.prefix = _prefix(check, entries["prefix"])
    given("limits", lambda node: parse_limits(check, node, "limits"))
    if "network" in entries:
        definition.pool = _pool(check, entries["network"]) or POOL
    definition.topology = _topology(
        check, entries.get("topology", Node(1, "string", "distributed"))
    )


def _topology(check: Checker, node: Node) -> Topology | None:
    text = check.string(node, "topology", "distributed")
    if text is None:
        return None
    try:
        return topologies.load(topologies.find(text))
    except TopologyError as error:
        check.error(node.line, "topology", error.what)
        return None


def _prefix(check: Checker, node: Node) -> str:
    """The beginning of the labs' names; empty after an error."""
    text = check.string(node, "prefix", "friday-")
    if text and not PREFIX.fullmatch(text):
        check.invalid(node, "prefix", "1 to 10 of a-z, 0-9 and '-', no '-' first")
        return ""
    return text or ""


def _pool(check: Checker, node: Node) -> IPv4Network | None:
    text = check.string(node, "network", "10.77.0.0/16")
    if text is None:
        return None
    try:
        pool = IPv4Network(text)
    except ValueError as error:
        check.error(node.line, "network", f"invalid value {text!r}: {error}")
        return None
    if pool.prefixlen > 24 or not is_private(pool):
        check.error(
            node.line, "network", f"{pool} must be private (RFC 1918), and hold one /24 per team"
        )
        return None
    return pool


def _course(
    check: Checker, path: Path, node: Node | None, definition: Definition, further: list[str]
) -> Course | None:
    """The course, whose path is relative to the class file.

    Args:
        further: gets the errors of the course's own file.
    """
    text = check.string(node, "course", "friday.yml") if node is not None else None
    if node is None or text is None:
        return None
    file = path.parent / text
    if not file.is_file():
        check.error(node.line, "course", f"file {file} does not exist")
        return None
    try:
        course = load_course(file)
    except LabError as error:
        further += error.what.splitlines()
        return None
    definition.course = str(file.resolve())
    own = definition.topology.name if definition.topology else ""
    for item in course.items:
        if own and own not in item.drill.topologies:
            needed = " or ".join(item.drill.topologies)
            what = f"drill {item.drill.id} needs topology {needed}, and the class has {own}"
            check.error(node.line, "course", what)
    return course


def _teams(check: Checker, node: Node, definition: Definition) -> dict[str, str]:
    """``teams``: names, which are their own seeds; a mapping to seeds; or a number."""
    if node.kind == "integer":
        count = check.integer(node, "teams", (1, MOST_TEAMS))
        teams = numbered(count) if count else {}
        for name in teams:
            _check_lab(check, definition, name, node.line)
        return teams
    seeds: dict[str, str] = {}
    labs: dict[str, str] = {}
    for name, seed, line in _named(check, node):
        if not TEAM.fullmatch(name):
            check.error(line, f"teams.{name}", "is no name of a team: letters, digits, ' -_'")
        elif name in seeds:
            check.error(line, f"teams.{name}", "duplicate team")
        else:
            lab = _check_lab(check, definition, name, line)
            if lab in labs:
                what = f"its lab would be {lab}, as that of team {labs[lab]}"
                check.error(line, f"teams.{name}", what)
            labs.setdefault(lab, name)
            seeds[name] = seed
    return seeds


def _named(check: Checker, node: Node) -> list[tuple[str, str, int]]:
    """Name, seed and line of each team."""
    if node.kind == "list" and node.items:
        texts = [(item, check.string(item, "teams", "red")) for item in node.items]
        return [(text, text, item.line) for item, text in texts if text]
    named = []
    if check.mapping(node, "teams", TEAMS_EXAMPLE):
        for name, key, value in check.keys(node, "teams"):
            if value.kind in ("string", "integer") and value.text.strip():
                named.append((name, value.text, key.line))
            else:
                check.invalid(value, f"teams.{name}", "a seed such as 17")
    return list({name: (name, seed, line) for name, seed, line in named}.values())


def _check_lab(check: Checker, definition: Definition, team: str, line: int) -> str:
    """The name of a team's lab, after it was checked."""
    lab = definition.lab(team)
    if not LAB_NAME.fullmatch(lab):
        what = f"its lab would be {lab!r}: expected 1 to 15 of a-z, 0-9 and '-', no '-' first"
        check.error(line, f"teams.{team}", what)
    elif lab == DEFAULT_LAB:
        check.error(line, f"teams.{team}", f"its lab would be {lab!r}, which is no lab of a class")
    return lab


def _seeds(
    check: Checker, entries: Mapping[str, Node], seeds: Mapping[str, str], course: Course
) -> dict[str, str]:
    """The seeds of a course that has teams are the course's."""
    if not course.teams:
        return dict(seeds)
    for team in seeds:
        if team not in course.teams:
            line = entries["teams"].line
            check.error(line, f"teams.{team}", "is no team of the course")
    return {team: course.teams.get(team, seed) for team, seed in seeds.items()}


def with_limits(definition: Definition) -> Definition:
    """The definition with the limits of its topology where the class has none."""
    own = definition.topology.limits if definition.topology else Limits()
    return replace(definition, limits=definition.limits.over(own))
