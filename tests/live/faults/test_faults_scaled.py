"""Faults in `scaled`, where every component is redundant: no operator acts, and nothing is lost.

No read fails while a server is left; only a balancer that dies loses the requests it was serving.
Failover is automatic here, so the tests do not promote: the two would race.
"""

from __future__ import annotations

import pytest

from tests.live.conftest import RunningLab
from tests.live.faults.faults import INJECT_AT, SCALED, Fault, measure

pytestmark = pytest.mark.live


@pytest.mark.parametrize("fault", SCALED, ids=lambda fault: fault.name.replace(" ", "-"))
def test_no_acknowledged_write_is_lost(scaled: RunningLab, fault: Fault) -> None:
    primary = scaled.session().state.primary
    outcome = measure(scaled, fault)
    result = outcome.result
    assert result.acknowledged
    assert (outcome.missing, outcome.duplicated) == (0, 0)
    assert result.unanswered == frozenset()
    if not fault.outage:
        late = [
            (at, what)
            for at, what in result.failures
            if not INJECT_AT <= at <= INJECT_AT + fault.gap
        ]
        assert late == []
    if fault.name == "power of the primary cut":
        assert scaled.session().state.primary != primary, "no replica was promoted"
