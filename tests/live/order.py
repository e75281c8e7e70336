"""In which order tests run, and how pytest's workers share them (``-n 2 --dist loadscope``)."""

from __future__ import annotations

from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

STAGES = ("monitoring", "scaled", "secured", "spof", "stages")
"""The files (``test_STAGE….py``) whose tests `scripts/test --quick` leaves out."""

DESIGNS = "designs"
"""What is said of all tests of the other designs, where workers share the work."""

LIVE = Path(__file__).parent


def together(nodeid: str) -> str:
    """Tests with the same word are run by one worker: those of a file, those of all other designs.

    So each lab is made once, and no two labs of many machines work at the same time.
    """
    file = nodeid.partition("::")[0]
    name = Path(file).stem.split("_")[1]
    return DESIGNS if "/live/" in file and name in (*STAGES, "faults") else file


def order(item: pytest.Item) -> tuple[int, bool]:
    """The other designs, the usual lab, unit tests; faults after what they could disturb."""
    if LIVE not in item.path.parents:
        return 2, False
    designs = together(item.nodeid) == DESIGNS
    return 0 if designs else 1, designs and "faults" in item.path.parts


class Scheduler(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out what belongs together as a whole."""

    def _split_scope(self, nodeid: str) -> str:
        return together(nodeid)
