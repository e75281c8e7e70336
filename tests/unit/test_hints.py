"""Commands in hints get the ``--lab`` of the command that failed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from provision.core.hints import COMMANDS_WITHOUT_LAB, for_lab
from provision.core.lab import ROOT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("next: invoke lab.up", "next: invoke lab.up --lab two"),
        ("invoke lab.up --lab two", "invoke lab.up --lab two"),
        ("invoke lab.up --network 10.1.2.0/24", "invoke lab.up --lab two --network 10.1.2.0/24"),
        (
            "invoke db.status shows all, db.promote helps; invoke lab.up again",
            "invoke db.status --lab two shows all, db.promote helps; invoke lab.up --lab two again",
        ),
        (
            "invoke lab.up and then invoke lab.destroy --lab other",
            "invoke lab.up --lab two and then invoke lab.destroy --lab other",
        ),
        ("rm x && invoke lab.up (a new CA)", "rm x && invoke lab.up --lab two (a new CA)"),
        (
            "invoke lab.up && invoke lab.check",
            "invoke lab.up --lab two && invoke lab.check --lab two",
        ),
        ("invoke box.build; invoke lab.up", "invoke box.build; invoke lab.up --lab two"),
        ("no command", "no command"),
    ],
)
def test_every_command_gets_the_lab(text: str, expected: str) -> None:
    assert for_lab(text, "two") == expected
    assert for_lab(text, "default") == text


def test_commands_without_lab() -> None:
    code = (
        "import tasks\n"
        "for name in sorted(tasks.namespace.task_names):\n"
        "    names = [n for a in tasks.namespace[name].get_arguments() for n in a.names]\n"
        "    if 'lab' not in names: print(name)\n"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert tuple(result.stdout.split()) == COMMANDS_WITHOUT_LAB
