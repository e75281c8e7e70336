"""Every fault again, behind firewalls and TLS."""

from __future__ import annotations

import pytest

from tests.live.conftest import RunningLab
from tests.live.faults.faults import Fault
from tests.live.faults.outcome import assert_nothing_lost, every_fault

pytestmark = pytest.mark.live


@every_fault
def test_no_acknowledged_write_is_lost(secured_lab: RunningLab, fault: Fault) -> None:
    assert_nothing_lost(secured_lab, fault)
