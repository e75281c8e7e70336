"""Every fault: no read fails while a server is left, and no acknowledged write is lost or doubled.

Counts are asserted, seconds are not: a busy computer is slow, but it must not lose anything.
"""

from __future__ import annotations

import pytest

from tests.live.conftest import RunningLab
from tests.live.faults.faults import FAULTS, Fault, NotHereError, measure

pytestmark = pytest.mark.live

NETEM = "qdisc kind is unknown"
"""The kernel's words where it was built without netem."""


each_fault = pytest.mark.parametrize(
    "fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-")
)


def nothing_is_lost(lab: RunningLab, fault: Fault) -> None:
    """Strike it while users are there, and count."""
    try:
        row = measure(lab, fault)
    except NotHereError as error:
        why = str(error)
    else:
        why = ""
    if why:
        assert NETEM in why or "there is no task" in why
        lab.up()
        pytest.skip(why)
    stream = row.stream
    assert stream.acknowledged
    assert (row.missing, row.doubled) == (0, 0)
    assert stream.unanswered == frozenset()
    if not fault.both:
        assert stream.failures == ()


@each_fault
def test_nothing_that_was_promised_is_lost(lab: RunningLab, fault: Fault) -> None:
    nothing_is_lost(lab, fault)


@pytest.mark.stages
@each_fault
def test_nor_behind_firewalls_and_tls(secured_lab: RunningLab, fault: Fault) -> None:
    nothing_is_lost(secured_lab, fault)
