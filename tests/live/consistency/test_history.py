"""A short, seeded run of the history checker under random faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.conftest import RunningLab
from tests.live.consistency.bench import heal, run_rounds

pytestmark = pytest.mark.live

SEED, ROUNDS = 7, 3


@pytest.fixture
def automatic(lab: RunningLab) -> Iterator[RunningLab]:
    """The session's lab with automatic failover on; restored afterwards."""
    lab.invoke("db.autopromote", "on")
    yield lab
    heal(lab)
    lab.invoke("db.autopromote", "off")
    session = lab.session()
    first = session.lab.with_role("mysql")[0].name
    if session.state.primary != first:
        lab.invoke("db.promote", first)
    lab.up()


def test_random_faults_break_no_promise(automatic: RunningLab) -> None:
    assert run_rounds(automatic, SEED, ROUNDS) == []
