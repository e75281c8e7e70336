"""One lab per topology for all drills; its good state is saved once and restored after each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from provision.core.errors import LabError
from provision.drills import flow
from tests.live.conftest import PREFIX, RunningLab

GetLab = Callable[[str], RunningLab]


def quiet(machine: str, text: str) -> None:
    """Report nothing."""


@pytest.fixture(scope="session")
def drill_lab() -> Iterator[GetLab]:
    """The lab of a topology, healthy, with its good state saved; one exists at a time."""
    current: list[tuple[str, RunningLab]] = []

    def get(topology: str) -> RunningLab:
        if current and current[0][0] != topology:
            current.pop()[1].destroy()
        if not current:
            running = RunningLab(f"{PREFIX}drill")
            running.up("--topology", topology)
            current.append((topology, running))
            with running.session().lock():
                flow.save_good_state(running.session(), "the acceptance test of drills", quiet)
        running = current[0][1]
        try:
            flow.require_healthy(running.session(), quiet)
        except LabError:  # an earlier test was interrupted
            with running.session().lock():
                flow.restore_good_state(running.session(), quiet)
        return running

    yield get
    for _, lab in current:
        lab.destroy()
