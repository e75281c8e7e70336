"""Every fault: reads fail only in a full outage, and acknowledged writes are stored once."""

from __future__ import annotations

import pytest

from tests.live.conftest import RunningLab
from tests.live.faults.faults import Fault
from tests.live.faults.outcome import assert_nothing_lost, every_fault

pytestmark = pytest.mark.live


@every_fault
def test_no_acknowledged_write_is_lost(lab: RunningLab, fault: Fault) -> None:
    assert_nothing_lost(lab, fault)
