"""Tasks that change machines end with what they did, and the next command with its lab."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provision.commands import explain, machines
from provision.operations.session import Session
from tests.unit.samples import context


class Provider:
    """A provider that only records what it was asked."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.states: dict[str, str] = {}

    def halt(self, lab: Any, report: Any, names: list[str]) -> None:
        self.calls.append(("halt", *names))
        self.states |= dict.fromkeys(names or [m.name for m in lab.machines], "halted")

    def kill(self, lab: Any, name: str) -> None:
        self.calls.append(("kill", name))
        self.states[name] = "halted"

    def start(self, lab: Any, name: str) -> None:
        self.calls.append(("start", name))
        self.states[name] = "running"

    def network_problem(self, lab: Any) -> str:
        return "there is no network"

    def state(self, lab: Any) -> dict[str, str]:
        return {m.name: self.states.get(m.name, "running") for m in lab.machines}


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Provider:
    here, source = context("distributed", root=tmp_path), Provider()
    session = Session(replace(here.lab, name="two"), here.state, source)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def unlocked(_: Session) -> Iterator[None]:
        yield

    monkeypatch.setattr(Session, "lock", unlocked)
    monkeypatch.setattr(machines, "open_session", lambda _="": session)
    return source


@pytest.mark.parametrize(
    ("task", "words", "lines"),
    [
        (machines.halt, (), ["shut down: lb-01, web-01, web-02"]),
        (machines.halt, ("web-01",), ["shut down: web-01"]),
        (
            machines.kill,
            ("web-01",),
            ["the power of web-01 is cut", "next: invoke lab.start --lab two web-01"],
        ),
        (
            machines.start,
            ("web-01",),
            [
                "web-01 was running already; its services were not checked",
                "next: invoke lab.check --lab two",
            ],
        ),
    ],
)
def test_a_task_ends_with_a_summary(
    task: Any,
    words: tuple[str, ...],
    lines: list[str],
    provider: Provider,
    capsys: pytest.CaptureFixture[str],
) -> None:
    task.body(None, *words)
    assert capsys.readouterr().out.splitlines() == lines
    assert provider.calls


def test_a_machine_that_is_off_is_called_what_it_is(
    provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    after = "next: invoke lab.start --lab two web-01"
    for task, words, lines in (
        (machines.kill, ("web-01",), ["the power of web-01 is cut", after]),
        (machines.kill, ("web-01",), ["web-01 was killed already", after]),
        (machines.halt, (), ["web-01 was killed already", "shut down: lb-01, web-02"]),
        (machines.kill, ("web-02",), ["web-02 was halted already", after.replace("01", "02")]),
    ):
        task.body(None, *words)
        assert capsys.readouterr().out.splitlines() == lines
    machines.start.body(None, "web-01")
    started = "web-01 is running; its services were not checked"
    assert capsys.readouterr().out.splitlines()[0] == started


def test_diagrams_and_explanations_call_a_killed_machine_killed(provider: Provider) -> None:
    session = machines.open_session()  # type: ignore[attr-defined]
    machines.kill.body(None, "web-02")
    assert session.provider.state(session.lab)["web-02"] == "halted"
    assert explain.observe_lab(session).states["web-02"] == "killed"
