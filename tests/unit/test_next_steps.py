"""Every hint as it is shown: a command alone on its line, with prose only as a shell comment."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache

import pytest

from provision import checks, topology
from provision.core import next_steps
from provision.core.errors import LabError
from provision.core.hints import COMMANDS_WITHOUT_LAB, for_lab
from provision.core.lab import ROOT
from tasks import namespace
from tests.unit.samples import context

VALUE = "VALUE"

NAMES = {"hint", "fix", "next"}
"""Keyword arguments and variables whose texts are hints."""


def is_flag(argument: object) -> bool:
    return getattr(argument, "kind", None) is bool


@cache
def signatures() -> dict[str, tuple[dict[str, bool], int, int]]:
    """By task: its options, whether each is a flag, and how many arguments it needs and takes."""
    by_task = {}
    for name in namespace.task_names:
        arguments = namespace[name].get_arguments()
        options = {
            ("--" if len(n) > 1 else "-") + n.replace("_", "-"): is_flag(a)
            for a in arguments
            for n in a.names
        }
        positional = [a for a in arguments if a.positional]
        needed = [a for a in positional if not hasattr(a, "fallback")]
        by_task[name] = (options, len(needed), len(positional))
    return by_task


def text_of(node: ast.expr) -> str | None:
    """A string literal, with `VALUE` for each value of an f-string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"\{\w*\}", VALUE, node.value)
    if isinstance(node, ast.JoinedStr):
        parts = (str(v.value) if isinstance(v, ast.Constant) else VALUE for v in node.values)
        return "".join(parts)
    return None


def hint_nodes(tree: ast.AST) -> Iterator[ast.expr]:
    """Second arguments of errors, and what is called a hint."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name.endswith(("Error", "PreflightProblem")) and len(node.args) > 1:
                yield node.args[1]
            yield from (k.value for k in node.keywords if k.arg in NAMES)
        elif isinstance(node, ast.Assign) and any(
            getattr(target, "id", "") in NAMES for target in node.targets
        ):
            yield node.value


@cache
def hints() -> tuple[tuple[str, str], ...]:
    """All hints of the source, and where they are."""
    found = []
    for path in sorted((ROOT / "provision").rglob("*.py")):
        for node in hint_nodes(ast.parse(path.read_text(encoding="utf-8"))):
            for part in [node.body, node.orelse] if isinstance(node, ast.IfExp) else [node]:
                if text := text_of(part):
                    found.append((f"{path.relative_to(ROOT)}:{part.lineno}", text))
    return tuple(found)


def problems(line: str) -> Iterator[str]:
    """Why a shown line cannot be pasted."""
    if not re.search(r"\binvoke [a-z]+\.", line):
        return
    for command in line.partition("    #")[0].split(" && "):
        try:
            words = shlex.split(command)
        except ValueError as error:
            yield str(error)
            continue
        while words and re.fullmatch(r"[A-Z_]+=\S+", words[0]):
            del words[0]
        if words[:1] != ["invoke"]:
            if "invoke" in words:
                yield "prose before the command"
            continue
        options, needed, most = signatures()[words[1]]
        arguments, rest = [], words[2:]
        while rest and rest[0] != "--":
            word = rest.pop(0)
            if not word.startswith("-"):
                arguments.append(word)
            elif word.partition("=")[0] not in {"--help", *options}:
                yield f"no option {word}"
            elif not options.get(word, True) and "=" not in word:
                if not rest:
                    yield f"{word} has no value"
                del rest[:1]
        if not needed <= len(arguments) <= most and "--help" not in words:
            yield f"{len(arguments)} arguments instead of {needed} to {most}"


def test_every_hint_is_shown_so_that_its_commands_can_be_pasted() -> None:
    wrong = [
        f"{where}: {problem}: {line}"
        for where, hint in hints()
        for line in next_steps.lines_of(for_lab(hint, "two"))
        for problem in problems(line)
    ]
    assert not wrong, "\n" + "\n".join(wrong)
    assert len([hint for _, hint in hints() if "invoke " in hint]) > 100


def test_every_command_of_a_hint_is_shown_with_its_lab() -> None:
    for where, hint in hints():
        shown = "\n".join(next_steps.lines_of(for_lab(hint, "two")))
        before = re.findall(r"\binvoke ([a-z]+\.[a-z-]+)", hint)
        assert re.findall(r"\binvoke ([a-z]+\.[a-z-]+)", shown) == before, where
        for line in shown.splitlines():
            for task in re.findall(r"\binvoke ([a-z]+\.[a-z-]+)", line):
                assert "--lab" in line or "--lab" not in signatures()[task][0], f"{where}: {line}"


@pytest.mark.parametrize("name", topology.names())
def test_hints_of_checks_can_be_pasted(name: str) -> None:
    for check in checks.checks(context(name)):
        for line in next_steps.lines_of(for_lab(check.hint, "two")):
            assert not list(problems(line)), f"{check.name}: {line}"


def test_the_table_of_arguments_is_that_of_the_tasks() -> None:
    tasks = signatures()
    assert {n: need for n, (_, need, _) in tasks.items() if need} == next_steps.REQUIRED
    assert {n for n, (_, need, most) in tasks.items() if most > need} == next_steps.OPTIONAL
    flags = {o for options, *_ in tasks.values() for o, flag in options.items() if flag}
    valued = {o for options, *_ in tasks.values() for o, flag in options.items() if not flag}
    expected = {o for o in flags - valued if o.startswith("--")} | {"--help"}
    assert expected == next_steps.FLAGS


@pytest.mark.parametrize(
    ("hint", "lines"),
    [
        (
            "invoke lab.status shows which machines run; invoke lab.up continues from here",
            [
                "invoke lab.status    # shows which machines run",
                "invoke lab.up    # continues from here",
            ],
        ),
        (
            "invoke lab.rescue web-01 --fix restores",
            ["invoke lab.rescue web-01 --fix    # restores"],
        ),
        ("fix the cause, then invoke lab.up", ["fix the cause, then", "invoke lab.up"]),
        ("rm x && invoke lab.up (a new CA)", ["rm x && invoke lab.up    # a new CA"]),
        ("invoke lab.up && invoke lab.check", ["invoke lab.up && invoke lab.check"]),
        (
            "invoke lab.ssh lb-01 -- sudo timedatectl set-ntp true",
            ["invoke lab.ssh lb-01 -- sudo timedatectl set-ntp true"],
        ),
        (
            "free space (invoke lab.snapshots shows sizes), then run it again",
            ["free space", "invoke lab.snapshots    # shows sizes, then run it again"],
        ),
        ("invoke lab.halt stops all", ["invoke lab.halt    # stops all"]),
        ("invoke lab.halt web-01", ["invoke lab.halt web-01"]),
        ("pass --yes to confirm", ["pass --yes to confirm"]),
    ],
)
def test_how_a_hint_is_shown(hint: str, lines: list[str]) -> None:
    assert next_steps.lines_of(hint) == lines


def test_lines_of_an_error_are_aligned() -> None:
    error = LabError("it is down", "invoke lab.status shows all; invoke lab.up continues")
    assert str(error).splitlines() == [
        "it is down",
        "next: invoke lab.status    # shows all",
        "      invoke lab.up    # continues",
    ]


WIDE = {"lab.destroy", "lab.restore", "db.restore", "lab.clean"}
"""Tasks that remove or replace data of the whole lab: never the answer to a failed check."""


@pytest.mark.parametrize("name", topology.names())
def test_hints_of_checks_affect_no_more_than_needed(name: str) -> None:
    for check in checks.checks(context(name, autopromote=True)):
        named = set(re.findall(r"\binvoke ([a-z]+\.[a-z-]+)", check.hint))
        assert not named & WIDE, f"{check.name}: {check.hint}"


def test_hints_stop_single_machines_only() -> None:
    for where, hint in hints():
        for line in next_steps.lines_of(hint):
            assert not re.search(r"\binvoke lab\.(halt|kill)(?! +\S)", line), f"{where}: {line}"


PRINTED_ELSEWHERE = {
    "provision/commands/box.py": "a new lab",
    "provision/commands/confirm_change.py": "part of a hint",
    "provision/commands/dns.py": "part of a hint",
    "provision/commands/drill.py": "completed when it is printed",
    "provision/commands/drill_class.py": "completed in the next line",
    "provision/commands/lab.py": "no lab exists",
    "provision/commands/show_checks.py": "the hint of an error",
}
"""Modules with commands outside of `for_lab`, and why they need no ``--lab`` there."""


def incomplete_commands(tree: ast.AST) -> Iterator[str]:
    """Texts with a command that are neither an error nor completed by `for_lab`."""
    complete = set()
    for node in ast.walk(tree):
        name = getattr(getattr(node, "func", None), "id", "")
        if name == "for_lab" or name.endswith(("Error", "not_among", "unreadable")):
            complete |= {id(inner) for inner in ast.walk(node)}
        body = getattr(node, "body", [])
        for statement in body if isinstance(body, list) else []:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                complete.add(id(statement.value))  # a docstring
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            tasks_in_text = set(re.findall(r"invoke ([a-z]+\.[a-z-]+)", node.value))
            if id(node) not in complete and tasks_in_text - {*COMMANDS_WITHOUT_LAB}:
                yield node.value


def test_printed_commands_carry_the_lab() -> None:
    modules = {
        str(path.relative_to(ROOT)): list(incomplete_commands(ast.parse(path.read_text("utf-8"))))
        for path in (ROOT / "provision" / "commands").glob("*.py")
    }
    incomplete = {name: texts for name, texts in modules.items() if texts}
    assert incomplete.keys() == PRINTED_ELSEWHERE.keys(), incomplete
