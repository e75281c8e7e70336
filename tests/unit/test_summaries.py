"""Tasks that change machines end with what they did, and the next command with its lab."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from provision.commands import machines
from provision.operations.session import Session
from tests.unit.samples import context


class Provider:
    """A provider that only records what it was asked."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def halt(self, lab: Any, report: Any, names: list[str]) -> None:
        self.calls.append(("halt", *names))

    def kill(self, lab: Any, name: str) -> None:
        self.calls.append(("kill", name))

    def start(self, lab: Any, name: str) -> None:
        self.calls.append(("start", name))

    def state(self, lab: Any) -> dict[str, str]:
        return {machine.name: "running" for machine in lab.machines}


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Provider:
    here, source = context("distributed"), Provider()
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
                "web-01 is running; its services were not checked",
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
