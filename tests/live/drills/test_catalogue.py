"""Every drill: healthy, broken, wrong fix refused, solved over a terminal, restored.

One drill: ``scripts/test tests/live/drills -k wrong-backend-port``. LAB_DRILL_SEEDS=1 saves time.
"""

from __future__ import annotations

import os

import pytest

from provision.drills import catalogue, trial
from provision.drills.catalogue import FOLDER
from provision.drills.drill import Drill
from provision.drills.source import load
from tests.live.drills.conftest import GetLab, quiet

SEEDS = ("1", "2")
"""Of drills with variables; the others have one exercise only."""

TOPOLOGIES = ("distributed", "secured", "scaled", "simple")
"""A drill is tried in the first of these that it has; so every lab is created once."""


def cases() -> list[object]:
    """Drill, topology and seed, grouped by topology."""
    found = []
    for path in catalogue.paths(FOLDER):
        drill = load(path)
        topology = next(name for name in TOPOLOGIES if name in drill.topologies)
        wanted = (
            os.environ.get("LAB_DRILL_SEEDS", "").split(",") if drill.front.get("vars") else ["1"]
        )
        for seed in [seed for seed in wanted if seed] or SEEDS:
            found.append((TOPOLOGIES.index(topology), drill, topology, seed))
    found.sort(key=lambda case: (case[0], case[1].level, case[1].id))
    return [
        pytest.param(drill, topology, seed, id=f"{drill.id}-{topology}-{seed}")
        for _, drill, topology, seed in found
    ]


@pytest.mark.parametrize(("drill", "topology", "seed"), cases())
def test_a_drill(drill_lab: GetLab, drill: Drill, topology: str, seed: str) -> None:
    lab = drill_lab(topology)
    with lab.session().lock():
        trial.attempt(lab.session(), drill, seed, quiet, print)
