"""Completion scripts, run by the shells themselves where they are installed."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from provision.commands import completion
from provision.commands.completion_scripts import SHELLS
from tests.unit.test_commands import every_task

BASH_DRIVER = """
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_foobar_lab
printf '%s\\n' "${COMPREPLY[@]}"
"""

ZSH_DRIVER = """
compdef() { :; }
compadd() { shift; print -rl -- "$@" }
_files() { print -r -- FILES }
source "$1"
shift
words=("$@") CURRENT=$#
_foobar_lab
"""

FISH_DRIVER = """
source $argv[1]
complete -C "$argv[2]" | string replace -r '\\t.*' ''
true
"""


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


def script(shell: str, folder: Path, root: Path) -> Path:
    path = folder / f"completion.{shell}"
    path.write_text(SHELLS[shell](replace(completion.words(), root=root)), encoding="utf-8")
    return path


def completed(shell: str, folder: Path, *words: str) -> list[str]:
    """The words that a shell offers for the last one, which has been typed in part."""
    path = str(script(shell, folder, folder))
    argv = {
        "bash": ["bash", "--norc", "-c", BASH_DRIVER, "bash", path, *words],
        "zsh": ["zsh", "-f", "-c", ZSH_DRIVER, "zsh", path, *words],
        "fish": ["fish", "--no-config", "-c", FISH_DRIVER, path, " ".join(words)],
    }[shell]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20)
    assert done.stderr == ""
    offered = [line for line in done.stdout.splitlines() if line]
    return [word for word in offered if word.startswith(words[-1])]


def test_words_are_completed(shell: str, tmp_path: Path) -> None:
    (tmp_path / ".lab" / "two").mkdir(parents=True)
    (tmp_path / ".lab" / "two" / "state.json").write_text("{}", encoding="utf-8")

    def offered(*words: str) -> list[str]:
        return completed(shell, tmp_path, "invoke", *words)

    assert offered("lab.sta") == ["lab.start", "lab.status"]
    assert offered("lab.up", "--top") == ["--topology"]
    assert offered("lab.up", "--topology", "s") == ["scaled", "secured", "simple"]
    assert {"web-01", "web-02"} <= set(offered("lab.ssh", "web"))
    assert offered("lab.logs", "lb-01", "--service", "ng") == ["nginx"]
    assert offered("lab.status", "--lab", "t") == ["two"]
    assert offered("db.autopromote", "o") == ["on", "off"] or shell == "fish"


def test_every_task_and_option_is_in_the_script(tmp_path: Path) -> None:
    for shell in SHELLS:
        text = script(shell, tmp_path, tmp_path).read_text(encoding="utf-8")
        for name, task in every_task():
            assert f" {name} " in text or f"{name})" in text, f"{shell}: {name}"
            for argument in task.get_arguments():
                if not argument.positional:
                    assert max(argument.names, key=len) in text, f"{shell}: {argument.name}"


def test_bash_completes_without_starting_a_program(tmp_path: Path) -> None:
    path = script("bash", tmp_path, tmp_path)
    driver = """
        source "$1"
        PATH=/nonexistent
        COMP_WORDS=(invoke lab.up --topology s) COMP_CWORD=3
        _foobar_lab
        [ "${#COMPREPLY[@]}" -eq 3 ]
    """
    start = time.monotonic()
    subprocess.run(["bash", "--norc", "-c", driver, "bash", str(path)], check=True, timeout=20)
    assert time.monotonic() - start < 1.0  # measured 5 ms; the limit allows for a loaded host


def test_an_unknown_shell() -> None:
    from tests.unit.test_commands import run

    result = run("lab.completion", "bsh")
    assert result.returncode == 2
    assert "did you mean bash?" in result.stderr
