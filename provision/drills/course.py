"""A course: an ordered list of drills with time limits, and a seed for each team."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provision.core.errors import LabError, TopologyError, UsageError
from provision.core.files import unreadable
from provision.core.suggestions import suggestion
from provision.drills import catalogue, lint
from provision.drills.drill import Drill
from provision.drills.source import DrillFileError, load, relative
from provision.topology.checker import Checker
from provision.topology.nodes import Node, parse_yaml

EXAMPLE = "'drills: [site-link-removed, {id: wrong-backend-port, minutes: 15}]'"
TEAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,30}")


@dataclass(frozen=True)
class CourseItem:
    """A drill of a course, and its time limit in minutes."""

    drill: Drill
    minutes: int


@dataclass(frozen=True)
class Course:
    """A course.

    Args:
        teams: the seed by the name of a team; empty when there are none.
    """

    title: str
    items: tuple[CourseItem, ...]
    teams: Mapping[str, str]

    def seed(self, team: str) -> str:
        """The seed of a team.

        Raises:
            UsageError: when the course has no such team.
        """
        if team in self.teams:
            return self.teams[team]
        if not self.teams and not team:
            return "1"
        names = ", ".join(self.teams) or "none: leave out --team"
        what = f"unknown team {team!r}{suggestion(team, self.teams)}"
        raise UsageError(what if team else "name a team with --team", f"teams: {names}")


def load_course(path: Path) -> Course:
    """Read a course and all its drills.

    Raises:
        DrillFileError: with all errors of the course and of its drills.
        UsageError: when the file cannot be read.
    """
    file = relative(path)
    try:
        node = parse_yaml(path.read_bytes().decode("utf-8"), file)
    except TopologyError as error:
        raise DrillFileError(error.what, f"a course looks like {EXAMPLE}") from None
    except (OSError, UnicodeDecodeError) as error:
        hint = "invoke drill.course FILE"
        raise unreadable(f"the course {file}", path, error, hint) from None
    check = Checker(file)
    items: list[CourseItem] = []
    broken: dict[Path, list[str]] = {}
    title, teams = path.stem, {}
    if check.mapping(node, "", EXAMPLE):
        entries = {
            name: value for name, _, value in check.keys(node, "", ("title", "drills", "teams"))
        }
        if "title" in entries:
            title = check.string(entries["title"], "title", "'Friday'") or title
        if "drills" not in entries:
            check.error(node.line, "", f"missing key drills, such as {EXAMPLE}")
        elif check.list(entries["drills"], "drills", EXAMPLE):
            for number, item in enumerate(entries["drills"].items):
                found = _item(check, item, f"drills[{number}]", broken)
                items += [found] if found else []
        if "teams" in entries:
            teams = _teams(check, entries["teams"])
    errors = [*check.errors, *(error for listed in broken.values() for error in listed)]
    if errors:
        raise DrillFileError("\n".join(errors), f"fix them, then run drill.course {file} again")
    return Course(title, tuple(items), teams)


def _item(
    check: Checker, node: Node, where: str, broken: dict[Path, list[str]]
) -> CourseItem | None:
    text, minutes = node, 0
    if node.kind == "mapping":
        entries = {name: value for name, _, value in check.keys(node, where, ("id", "minutes"))}
        if "id" not in entries:
            check.error(node.line, where, "missing key id")
            return None
        text = entries["id"]
        if "minutes" in entries:
            minutes = check.integer(entries["minutes"], f"{where}.minutes", (1, 240)) or 0
    name = check.string(text, where, "site-link-removed")
    if name is None:
        return None
    try:
        path = catalogue.find(name)
    except LabError as error:
        check.error(text.line, where, error.what)
        return None
    problems = broken.get(path) or lint.lint(path)
    if problems:
        broken[path] = problems
        return None
    drill = load(path)
    return CourseItem(drill, minutes or drill.minutes)


def _teams(check: Checker, node: Node) -> dict[str, str]:
    """``teams``: a mapping from names to seeds, or a list of names, which are their own seeds."""
    example = "'[red, blue]' or '{red: 17, blue: 42}'"
    if node.kind == "list":
        names = [check.string(item, "teams", "red") for item in node.items]
        return {name: name for name in names if name}
    if not check.mapping(node, "teams", example):
        return {}
    teams = {}
    for name, key, value in check.keys(node, "teams"):
        if not TEAM.fullmatch(name):
            check.error(key.line, f"teams.{name}", "is no name of a team: letters and digits")
        elif value.kind in ("string", "integer") and value.text.strip():
            teams[name] = value.text
        else:
            check.invalid(value, f"teams.{name}", "a seed such as 17")
    return teams
