"""Every drill: healthy, broken, wrong fix refused, solved over a terminal, restored.

One drill: ``scripts/test tests/live/drills -k wrong-backend-port``. LAB_DRILL_SEEDS=1 saves time,
and so does LAB_DRILL_SHARE=2/5: every fifth drill, starting with the third. `scripts/test`
takes another share for each commit when its time is limited.
"""

from __future__ import annotations

import os

import pytest

from provision.drills import catalogue, trial
from provision.drills.catalogue import FOLDER
from provision.drills.drill import Drill
from provision.drills.source import load
from tests.live.conftest import RunningLab
from tests.live.drills.conftest import GetLab, quiet

SEEDS = ("1", "2")
"""Of drills with variables; the others have one exercise only."""

TOPOLOGIES = ("distributed", "secured", "scaled", "simple")
"""A drill is tried in the first of these that it has; so every lab is created once."""


def cases(topology: str, part: int = 0, parts: int = 1) -> pytest.MarkDecorator:
    """The drills of a topology with each of their seeds; or every `parts`-th of these drills."""
    drills = [load(path) for path in catalogue.paths(FOLDER)]
    tried = [
        drill
        for drill in sorted(drills, key=lambda drill: (drill.level, drill.id))
        if next(name for name in TOPOLOGIES if name in drill.topologies) == topology
    ]
    return pytest.mark.parametrize(
        ("drill", "seed"),
        [
            pytest.param(drill, seed, id=f"{drill.id}-{seed}")
            for drill in share(tried[part::parts])
            for seed in seeds(drill)
        ],
    )


def share(drills: list[Drill]) -> list[Drill]:
    """The drills of this run: all of them unless LAB_DRILL_SHARE says otherwise."""
    first, _, step = os.environ.get("LAB_DRILL_SHARE", "0/1").partition("/")
    return drills[int(first) :: int(step)]


def seeds(drill: Drill) -> list[str]:
    """The seeds that a drill is tried with: one is enough for a drill without variables."""
    if not drill.front.get("vars"):
        return ["1"]
    wanted = os.environ.get("LAB_DRILL_SEEDS", "").split(",")
    return [seed for seed in wanted if seed] or list(SEEDS)


def attempt(lab: RunningLab, drill: Drill, seed: str) -> None:
    """Take the drill through all phases, with the lab's lock held."""
    with lab.session().lock():
        trial.attempt(lab.session(), drill, seed, quiet, print)


# Each class has labs of its own, so that two processes share the catalogue.


class TestDistributedFirst:
    """Every second drill of the first topology."""

    @cases("distributed", 0, 2)
    def test_a_drill(self, drill_lab: GetLab, drill: Drill, seed: str) -> None:
        attempt(drill_lab("distributed"), drill, seed)


class TestDistributedSecond:
    """The others."""

    @cases("distributed", 1, 2)
    def test_a_drill(self, drill_lab: GetLab, drill: Drill, seed: str) -> None:
        attempt(drill_lab("distributed"), drill, seed)


class TestSecured:
    """Drills that need certificates, firewalls or monitoring."""

    @cases("secured")
    def test_a_drill(self, drill_lab: GetLab, drill: Drill, seed: str) -> None:
        attempt(drill_lab("secured"), drill, seed)


class TestScaled:
    """Drills that need two load balancers and application servers."""

    @cases("scaled")
    def test_a_drill(self, drill_lab: GetLab, drill: Drill, seed: str) -> None:
        attempt(drill_lab("scaled"), drill, seed)


def test_every_drill_is_tried() -> None:
    tried = {name for name in TOPOLOGIES if name != "simple"}
    for path in catalogue.paths(FOLDER):
        assert tried & set(load(path).topologies), f"no class above tries {path.name}"
