"""The assertions of every fault test: counts, because durations depend on the host's load."""

from __future__ import annotations

import pytest

from tests.live.conftest import RunningLab
from tests.live.faults.faults import FAULTS, Fault, UnsupportedFaultError, measure

NO_NETEM = "qdisc kind is unknown"
"""The kernel's message when it was built without netem."""

every_fault = pytest.mark.parametrize(
    "fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-")
)


def assert_nothing_lost(lab: RunningLab, fault: Fault) -> None:
    """Inject the fault under a bounded workload, and compare the counts."""
    try:
        outcome = measure(lab, fault)
    except UnsupportedFaultError as error:
        reason = str(error)
    else:
        reason = ""
    if reason:
        assert NO_NETEM in reason or "there is no task" in reason
        lab.up()
        pytest.skip(reason)
    result = outcome.result
    assert result.acknowledged
    assert (outcome.missing, outcome.duplicated) == (0, 0)
    assert result.unanswered == frozenset()
    if not fault.outage:
        assert result.failures == ()
