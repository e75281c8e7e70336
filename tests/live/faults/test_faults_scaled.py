"""Faults in the design that has every part twice: nobody mends anything, and nothing is lost.

No read fails while a server is left; only a balancer that dies takes what it was answering along.
The lab promotes by itself, so nobody promotes by hand here: the two would be in a race.
"""

from __future__ import annotations

import pytest

from tests.live.conftest import RunningLab
from tests.live.faults.faults import BEGIN, SCALED, Fault, measure

pytestmark = [pytest.mark.live, pytest.mark.stages]


@pytest.mark.parametrize("fault", SCALED, ids=lambda fault: fault.name.replace(" ", "-"))
def test_nothing_is_lost_where_every_part_is_there_twice(scaled: RunningLab, fault: Fault) -> None:
    primary = scaled.session().state.primary
    row = measure(scaled, fault)
    stream = row.stream
    assert stream.acknowledged
    assert (row.missing, row.doubled) == (0, 0)
    assert stream.unanswered == frozenset()
    if not fault.both:
        late = [(at, what) for at, what in stream.failures if not BEGIN <= at <= BEGIN + fault.gap]
        assert late == []
    if fault.name == "power of the primary cut":
        assert scaled.session().state.primary != primary, "nobody was promoted"
