"""Help, short options, and the suggestion for every typing error on the command line."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from typing import Any

import pytest
from invoke.tasks import Task

from provision.commands import namespace, usage
from provision.commands.parsing import SHORT_OPTIONS
from provision.core.exit_status import ExitStatus
from tests.unit.test_commands import every_task, run

CORE_SHORT = {"h": "help"}


def arguments(task: Task[Any]) -> list[Any]:
    return list(task.get_arguments())


def test_every_argument_is_explained_with_its_default() -> None:
    for name, task in every_task():
        for argument in arguments(task):
            text = usage.description(argument)
            assert text.strip(), f"{name}: {argument.name} has no help"
            required = argument.positional and not hasattr(argument, "fallback")
            assert required or "default" in text, f"{name}: {argument.name}: {text!r}"
            assert not re.search(r"<class|inspect|\[\]|None", text), f"{name}: {text!r}"
            assert len(text) < 160, f"{name}: {argument.name}: {text!r}"


def test_a_short_option_means_the_same_in_every_task() -> None:
    meanings = defaultdict(set)
    for _, task in every_task():
        for argument in arguments(task):
            for name in argument.names:
                if len(name) == 1:
                    meanings[name].add((argument.name, argument.kind is bool))
    assert meanings["l"] == {("lab", False)}
    assert all(len(names) == 1 for names in meanings.values()), meanings
    assert len(set(SHORT_OPTIONS.values())) == len(SHORT_OPTIONS)
    assert not set(SHORT_OPTIONS.values()) & set(CORE_SHORT)


def test_the_help_of_every_task_fits(capsys: pytest.CaptureFixture[str]) -> None:
    program = type("Program", (), {"collection": namespace.collection()})()
    for columns in (40, 80, 120):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLUMNS", str(columns))
            for name, task in every_task():
                usage.print_task_help(program, name)
                lines = capsys.readouterr().out.splitlines()
                long = [line for line in lines[1:] if len(line) > columns and " " in line.strip()]
                assert not long, f"{name} at {columns}: {long}"
                for argument in arguments(task):
                    word = (
                        argument.name.upper()
                        if argument.positional
                        else f"--{usage.long_name(argument)}"
                    )
                    shown = "\n".join(lines).replace("[no-]", "")
                    assert word in shown, f"{name}: {word}"


def test_options_are_sorted_by_name() -> None:
    for name, task in every_task():
        _, options = usage.option_rows(task)
        names = [re.sub(r".*--(\[no-\])?(\S+).*", r"\2", row) for row, _ in options]
        assert names == sorted(names), name


def test_the_usage_line_shows_arguments() -> None:
    lines = {name: usage.usage_line(name, task) for name, task in every_task()}
    assert lines["lab.ssh"] == "invoke lab.ssh MACHINE [options] [-- COMMAND]"
    assert lines["lab.halt"] == "invoke lab.halt [MACHINE] [options]"
    assert lines["lb.weight"] == "invoke lb.weight SERVER WEIGHT [options]"
    assert lines["class.each"] == "invoke class.each [options] -- TASK"
    assert lines["lab.list"] == "invoke lab.list [options]"


@pytest.mark.parametrize(
    ("command", "what", "next_command"),
    [
        ("lab.upp", "unknown task 'lab.upp'; did you mean lab.up?", "invoke lab.up"),
        ("db.statsu --lab=x", "did you mean db.status?", "invoke db.status --lab=x"),
        ("db.drain web-01", "did you mean lb.drain?", "invoke lb.drain web-01"),
        ("status", "did you mean", ""),
        ("nonsense", "unknown task 'nonsense'", "invoke --list"),
        ("lab", "lab is a group of tasks, not a task", "invoke --list lab"),
        ("drill start", "drill is a group of tasks, not a task", "invoke --list drill"),
        (
            "lab.up --topolgy=simple",
            "lab.up has no option --topolgy; did you mean --topology?",
            "invoke lab.up --topology=simple",
        ),
        ("lab.up --topology", "--topology needs a value", "invoke lab.up --help"),
        ("lab.ssh", "lab.ssh: MACHINE is missing", "invoke lab.ssh --help"),
        ("lab.halt a b", "unexpected argument 'b'", "invoke lab.halt --help"),
        ("--lab x lab.up", "options of a task follow its name", "invoke --list"),
        ("--lst", "did you mean --list?", "invoke --list"),
        ("--help lab.upp", "did you mean lab.up?", "invoke --help lab.up"),
        ("--list nonsense", "nonsense", "invoke --list"),
    ],
)
def test_typing_errors(command: str, what: str, next_command: str) -> None:
    result = run(*shlex.split(command))
    assert result.returncode == ExitStatus.USAGE
    assert result.stdout == ""
    first, second = result.stderr.splitlines()
    assert first.startswith("error: ")
    assert what in first
    assert second.startswith(f"next: {next_command}")
