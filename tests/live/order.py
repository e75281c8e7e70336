"""The order of the tests, and how pytest's workers share them (``-n 2 --dist loadscope``)."""

from __future__ import annotations

from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

LIVE = Path(__file__).parent
DIAGNOSIS = LIVE / "diagnosis"
DRILLS = LIVE / "drills"
INCUS = LIVE / "incus"
"""Fault injection, the drills, and Incus: long groups of their own."""

CLASSROOM = (
    "test_board.py",
    "test_board_page.py",
    "test_class.py",
    "test_spare.py",
)
"""Files of a group of their own: the board, classes of labs and spares."""

SECURED = ("secured", "monitoring")
SCALED = ("scaled", "spof", "topologies")
"""Words after ``test_`` in the names of files that test other topologies than ``distributed``."""

LXC = "test_provider_lxc"
"""The beginning of the names of files whose labs take the next free network of one range."""


def topology_group(path: Path) -> str:
    """``secured`` or ``scaled`` for a file that tests other topologies; empty for the rest."""
    words = path.stem.split("_")[1:]
    for group, names in (("secured", SECURED), ("scaled", SCALED)):
        if any(word in names for word in words):
            return group
    return ""


def scope(nodeid: str) -> str:
    """Tests of one scope run in one worker, so that each lab is created once.

    A file is a scope, except that the files of one topology group share one lab, that those of
    provider lxc must not choose their networks at the same time, and that each class of live tests
    is a scope of its own.
    """
    file, *names = nodeid.split("::")
    if "/live/" not in file:
        return file
    if group := topology_group(Path(file)):
        return group
    if Path(file).name.startswith(LXC):
        return LXC
    return "::".join([file, *names[:1]]) if len(names) > 1 else file


def order(item: pytest.Item) -> tuple[int, bool]:
    """Live tests first, the longest ones at the start; fault injection last."""
    if LIVE not in item.path.parents:
        return 2, False
    faults = "faults" in item.path.parts
    return (0, faults) if topology_group(item.path) else (1, faults)


class Scheduler(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each scope to one worker as a whole."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)
