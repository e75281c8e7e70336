"""What every fault test asserts: counts, never seconds. A busy host is slow but loses nothing."""

from __future__ import annotations

import pytest

from tests.live.conftest import RunningLab
from tests.live.faults.faults import FAULTS, Fault, NotHereError, measure

NO_NETEM = "qdisc kind is unknown"
"""The kernel's message when it was built without netem."""

each_fault = pytest.mark.parametrize(
    "fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-")
)


def assert_nothing_lost(lab: RunningLab, fault: Fault) -> None:
    """Inject the fault under a bounded stream of requests, and compare the counts."""
    try:
        row = measure(lab, fault)
    except NotHereError as error:
        reason = str(error)
    else:
        reason = ""
    if reason:
        assert NO_NETEM in reason or "there is no task" in reason
        lab.up()
        pytest.skip(reason)
    stream = row.stream
    assert stream.acknowledged
    assert (row.missing, row.doubled) == (0, 0)
    assert stream.unanswered == frozenset()
    if not fault.both:
        assert stream.failures == ()
