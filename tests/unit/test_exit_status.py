"""The exit status of every task for what a user types wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from invoke.program import Program

import tasks
from provision.core import classroom
from provision.core.exit_status import ExitStatus
from provision.core.state import lab_names
from tests.unit.test_commands import every_task

TASKS = dict(every_task())

WITHOUT_RECORD = {
    "lab.up": "makes it",
    "lab.destroy": "nothing is left to do",
    "lab.diagram": "draws its topology",
    "lab.doctor": "says what it needs",
    "lab.prefetch": "downloads what it needs",
    "drill.list": "shows all drills",
    "drill.try": "makes a scratch lab",
}
"""Tasks that take the name of a lab that does not exist, and why."""

POSITIONAL = {"drill.course": "missing.yml", "drill.try": "nonsense"}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process: exit status, stdout, stderr."""

    def ended(*words: str) -> tuple[int, str, str]:
        argv = ["invoke", *words]
        monkeypatch.setattr("sys.argv", argv)
        status: object = 0
        try:
            Program(namespace=tasks.namespace, name="invoke", binary="invoke").run(argv)
        except SystemExit as end:
            status = end.code
        assert isinstance(status, int)
        return status, *capsys.readouterr()

    monkeypatch.delenv("LAB_NAME", raising=False)
    return ended


def required(name: str) -> list[str]:
    """A word for every positional argument that has no default."""
    arguments = TASKS[name].get_arguments()
    missing = [a for a in arguments if a.positional and not hasattr(a, "fallback")]
    return [POSITIONAL.get(name, "web-01") for _ in missing]


@pytest.mark.parametrize("name", TASKS)
def test_a_wrong_option_is_a_usage_error(name: str, run: Run) -> None:
    status, out, err = run(name, "--qqq")
    assert (status, out) == (ExitStatus.USAGE, "")
    assert err.startswith(f"error: {name} has no option --qqq\nnext: invoke {name} --help")


@pytest.mark.parametrize(
    "name", [n for n, t in TASKS.items() if any(a.name == "lab" for a in t.get_arguments())]
)
def test_an_unknown_lab_is_a_usage_error(name: str, run: Run) -> None:
    if name in WITHOUT_RECORD:
        return
    status, out, err = run(name, *required(name), "--lab", "never-up")
    assert status == ExitStatus.USAGE, err
    assert out == ""
    assert "Traceback" not in err
    if name != "drill.course":  # its file is read first
        assert err == "error: there is no lab never-up yet\nnext: invoke lab.up --lab never-up\n"
    assert "never-up" not in lab_names()


@pytest.mark.parametrize("name", [name for name in TASKS if name.startswith("class.")])
def test_no_class_is_a_usage_error(name: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classroom, "load", lambda *_: None)
    status, _, err = run(name)
    expected = ExitStatus.SUCCESS if name == "class.destroy" else ExitStatus.USAGE
    assert status == expected
    assert name == "class.destroy" or err.startswith("error: there is no class yet\nnext: invoke ")


@pytest.mark.parametrize("words", [("dns.trace", "notes"), ("lab.load", "--path", "a b")])
def test_a_wrong_path_of_a_url_is_a_usage_error(words: tuple[str, ...], run: Run) -> None:
    status, _, err = run(*words)
    assert status == ExitStatus.USAGE
    assert err.startswith(f"error: invalid path {words[-1]!r}\nnext: use a path such as / or ")


def test_the_exceptions_exist() -> None:
    assert WITHOUT_RECORD.keys() <= TASKS.keys()


def test_statuses_are_distinct() -> None:
    assert len({int(status) for status in ExitStatus}) == len(ExitStatus)
