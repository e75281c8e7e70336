"""Every command exits silently on a closed pipe, also before Invoke loads tasks.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from provision.core.lab import ROOT
from provision.setup import virtual_environment
from tests.unit.test_commands import INVOKE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGPIPE")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment as the set-up makes it, with the packages of this one."""
    folder = tmp_path_factory.mktemp("environment") / ".venv"
    creation = [virtual_environment.base_python(), "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(creation, check=True, timeout=60)
    (packages,) = folder.glob("lib/python3*/site-packages")
    (packages / "packages.pth").write_text(f"{Path(yaml.__file__).parents[1]}\n")
    virtual_environment.end_at_closed_pipes(folder)
    return virtual_environment.program("python", folder)


def run_unread(python: Path, *words: str) -> tuple[int, str]:
    """Run `invoke` with a closed pipe as stdout; its exit status and stderr."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [python, INVOKE, *words],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        os.close(write)
    return done.returncode, done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["--help", "--version", "--print-completion-script=bash"])
def test_what_invoke_prints_without_the_tasks_ends_by_sigpipe(
    python: Path, words: str, unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    assert run_unread(python, words) == (-signal.SIGPIPE, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words",
    [
        "",
        "--list",
        "--list lab",
        "--list --list-format=json",
        "--complete -- lab.c",
        "--help lab.check",
        "lab.check --help",
        "lab.list",
        "lab.list --json",
        "lab.completion bash",
    ],
)
def test_a_task_and_its_help_keep_their_status(
    python: Path, words: str, unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    assert run_unread(python, *words.split()) == (0, "")


def test_an_error_is_still_reported(python: Path) -> None:
    status, errors = run_unread(python, "lab.status", "--lab", "absent")
    assert status == 2
    assert errors.startswith("error: ")
    assert "Broken" not in errors


def test_other_programs_of_the_environment_ignore_sigpipe_as_python_does(python: Path) -> None:
    code = "import signal; assert signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN"
    subprocess.run([python, "-c", code, "/bin/invoke"], check=True, timeout=30)


def test_an_environment_that_cannot_be_written_stays_as_it_is(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.13" / "site-packages"
    (packages / virtual_environment.STARTUP).mkdir(parents=True)
    virtual_environment.end_at_closed_pipes(tmp_path)
    assert [path.name for path in packages.iterdir()] == [virtual_environment.STARTUP]
