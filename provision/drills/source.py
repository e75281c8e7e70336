"""Read a drill's file: YAML front matter between two lines ``---``, and a story in Markdown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2

from provision.core.errors import LabError, TopologyError
from provision.core.exit_status import ExitStatus
from provision.core.files import cannot_read
from provision.core.lab import ROOT
from provision.drills.drill import Drill
from provision.drills.render import environment
from provision.drills.schema import drill_schema, lines, plain, validate
from provision.topology.checker import Checker
from provision.topology.nodes import parse_yaml

FENCE = "---"
MODEL = "configs/drills/web/site-link-removed.md"
PROBE_KINDS = ("check", "get", "run", "load")


class DrillFileError(LabError):
    """All errors of one or more drill files, one per line."""


def load(path: Path) -> Drill:
    """Read and validate one file.

    Raises:
        DrillFileError: with all errors of the file, each with file, line and key.
    """
    file = relative(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise _invalid(
            [f"{file}:{line}: byte {error.object[error.start]:#04x} is not UTF-8"]
        ) from None
    except FileNotFoundError:
        raise DrillFileError(
            f"{file} does not exist", "invoke drill.list", status=ExitStatus.USAGE
        ) from None
    except OSError as error:
        raise cannot_read(path, error) from None
    front, story, first = split(text, file)
    try:
        node = parse_yaml("\n" + front, file)
    except TopologyError as error:
        raise _invalid([error.what]) from None
    check = Checker(file)
    validate(check, node, drill_schema())
    if check.errors:
        raise _invalid(check.errors)
    drill = Drill(path, plain(node), story, lines(node))
    for where, problem in _problems(drill):
        check.error(drill.lines.get(where, 1), where, problem)
    for line, problem in _template_problems(drill, first):
        check.error(line, "", problem)
    if check.errors:
        raise _invalid(check.errors)
    return drill


def split(text: str, file: str) -> tuple[str, str, int]:
    """Front matter, story, and the line at which the story starts.

    Raises:
        DrillFileError: when the front matter is not enclosed.
    """
    rows = text.replace("\r\n", "\n").split("\n")
    if rows[0].rstrip() != FENCE:
        raise _invalid([f"{file}:1: a drill starts with a line {FENCE} and its front matter"])
    for number, row in enumerate(rows[1:], 1):
        if row.rstrip() == FENCE:
            return (
                "\n".join(rows[1:number]),
                "\n".join(rows[number + 1 :]).strip() + "\n",
                number + 2,
            )
    raise _invalid([f"{file}:{len(rows)}: the front matter has no end: a second line {FENCE}"])


def relative(path: Path) -> str:
    """A path as messages show it."""
    absolute = path.absolute()
    return str(absolute.relative_to(ROOT) if absolute.is_relative_to(ROOT) else path)


def _invalid(errors: list[str]) -> DrillFileError:
    return DrillFileError("\n".join(errors), f"compare it with {MODEL}, and run drill.lint again")


def walk(value: Any, where: str = "") -> list[tuple[str, Any]]:
    """Every value of a front matter with the path of its key."""
    result = [(where, value)]
    if isinstance(value, dict):
        for key, item in value.items():
            result += walk(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            result += walk(item, f"{where}[{number}]")
    return result


def _problems(drill: Drill) -> list[tuple[str, str]]:
    """What the schema cannot express, by the path of a key."""
    front, problems = drill.front, []
    if drill.path.stem != drill.id:
        problems.append(("id", f"is {drill.id!r}, and the file is {drill.path.name}"))
    folder = drill.path.absolute().parent
    if folder.parent == ROOT / "configs" / "drills" and folder.name != drill.layer:
        problems.append(("layer", f"is {drill.layer!r}, and the folder is {folder.name}"))
    if not drill.story.strip():
        problems.append(("", "the story after the front matter is missing"))
    cause = front["root_cause"]
    if ("cannot" in cause) == ("machine" in cause and "service" in cause):
        problems.append(("root_cause", "needs machine and service, or cannot"))
    for where, value in walk(front):
        if isinstance(value, dict):
            if re.fullmatch(r"break\[\d+\]", where):
                problems += _step_problems(where, value)
            if re.fullmatch(r"(symptoms|proofs|forbidden)\[\d+\]|hints\[\d+\]\.(if|unless)", where):
                problems += _probe_problems(where, value)
            if re.fullmatch(r"vars\.\w+", where):
                problems += _variable_problems(where, value)
    for name in front.get("vars", {}):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            problems.append((f"vars.{name}", "is no name: use small letters, digits and _"))
    return problems


def _step_problems(where: str, step: dict[str, Any]) -> list[tuple[str, str]]:
    kinds = [kind for kind in ("run", "file", "reboot") if kind in step]
    if len(kinds) != 1:
        return [(where, "needs exactly one of run, file, reboot")]
    if ("file" in step) != ("content" in step):
        return [(where, "file and content belong together")]
    return []


def _probe_problems(where: str, probe: dict[str, Any]) -> list[tuple[str, str]]:
    kinds = [kind for kind in PROBE_KINDS if kind in probe]
    if len(kinds) != 1:
        return [(where, f"needs exactly one of {', '.join(PROBE_KINDS)}")]
    problems = []
    kind, expect = kinds[0], probe.get("expect", {})
    if kind == "run" and "machine" not in probe:
        problems.append((where, "run needs machine"))
    allowed = {
        "check": (),
        "load": ("seconds",),
        "run": ("exit", "output", "absent", "seconds"),
        "get": ("status", "output", "absent", "headers", "servers", "balanced", "seconds"),
    }[kind]
    for key in expect:
        if key not in allowed:
            problems.append((f"{where}.expect.{key}", f"does not apply to {kind}"))
    if expect.get("balanced") and "servers" not in expect:
        problems.append((f"{where}.expect.balanced", "needs servers"))
    if "after" in probe and where.startswith("forbidden"):
        problems.append((f"{where}.after", "does not apply to forbidden"))
    return problems


def _variable_problems(where: str, variable: dict[str, Any]) -> list[tuple[str, str]]:
    kinds = [kind for kind in ("pick", "machine", "port", "token") if kind in variable]
    if len(kinds) != 1:
        return [(where, "needs exactly one of pick, machine, port, token")]
    if "except" in variable and kinds[0] != "machine":
        return [(f"{where}.except", "applies to machine only")]
    return []


def _template_problems(drill: Drill, first: int) -> list[tuple[int, str]]:
    """Syntax errors of templates, by line.

    Args:
        first: the line at which the story starts.
    """
    problems = []
    texts = [(drill.lines.get(where, 1), where, v) for where, v in walk(dict(drill.front))]
    for line, where, text in [*texts, (first, "the story", drill.story)]:
        if not isinstance(text, str) or "{" not in text:
            continue
        try:
            environment().parse(text)
        except jinja2.TemplateSyntaxError as error:
            problems.append((line + error.lineno - 1, f"{where}: template: {error.message}"))
    return problems
