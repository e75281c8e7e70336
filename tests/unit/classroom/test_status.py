"""The status of a class's labs: their state, the member of a cluster, and the next command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from provision import providers
from provision.classroom import status
from provision.classroom.status import TeamStatus
from provision.core import state as states
from provision.core.classroom import Team
from provision.core.errors import ProviderError
from provision.core.lab import ROOT, Lab
from provision.core.state import State

RED = Team("red", "k-red", "10.1.2.0/24", "C", "s")


class FakeProvider:
    """A provider whose machines are in a state, on a member."""

    name = "fake"

    def __init__(self) -> None:
        self.machines = "running"
        self.error: ProviderError | None = None

    def state(self, lab: Lab) -> dict[str, str]:
        if self.error is not None:
            raise self.error
        return {machine.name: self.machines for machine in lab.machines}

    def member(self, lab: Lab) -> str:
        return "m2"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeProvider:
    """A lab of the team ``red`` in a checkout of its own."""
    provider = FakeProvider()
    monkeypatch.setattr(providers, "provider", lambda name: provider)
    shutil.copytree(ROOT / "configs" / "topologies", tmp_path / "configs" / "topologies")
    directory = tmp_path / ".lab" / RED.lab
    directory.mkdir(parents=True)
    states.save(directory, State(provider="fake", network=RED.network, primary="web-01"))
    (directory / "served").touch()
    return provider


def red(root: Path) -> TeamStatus:
    (found,) = status.of_teams([RED], root)
    return found


def test_a_lab_that_is_up_names_its_member(fake: FakeProvider, tmp_path: Path) -> None:
    found = red(tmp_path)
    assert (found.state, found.member, found.problem) == ("up", "m2", "")
    assert found.running == found.machines == 3


def test_machines_that_are_gone_are_on_no_member(fake: FakeProvider, tmp_path: Path) -> None:
    fake.machines = "absent"
    found = red(tmp_path)
    assert (found.state, found.member) == ("absent", "")
    assert "invoke class.up makes new ones" in found.problem


def test_a_lab_that_cannot_be_reached_says_what_to_do(fake: FakeProvider, tmp_path: Path) -> None:
    fake.error = ProviderError("member m2 does not respond", "start m2; then invoke lab.up")
    found = red(tmp_path)
    assert (found.state, found.member) == ("unknown", "m2")
    assert found.problem == ("member m2 does not respond; start m2; then invoke lab.up --lab k-red")
