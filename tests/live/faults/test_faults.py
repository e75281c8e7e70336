"""Every fault: no read fails while a server is left, no acknowledged write is lost or doubled."""

from __future__ import annotations

import pytest

from tests.live.conftest import RunningLab
from tests.live.faults.faults import Fault
from tests.live.faults.outcome import assert_nothing_lost, each_fault

pytestmark = pytest.mark.live


@each_fault
def test_no_acknowledged_write_is_lost(lab: RunningLab, fault: Fault) -> None:
    assert_nothing_lost(lab, fault)
