"""What lies between two designs that have no database machine in common."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from provision import topology
from provision.core.errors import LabError
from provision.core.lab import Lab
from provision.core.state import State
from provision.operations.stages import Leaving, Step, transition
from provision.topology import labs


def lab(name: str) -> Lab:
    return Lab("two", Path("/nowhere"), topology.load(topology.find(name)))


def state(primary: str, name: str = "distributed") -> State:
    return State(topology=name, provider="lxc", primary=primary)


def test_up_the_old_primary_keeps_its_database_for_a_while() -> None:
    between = transition(lab("distributed"), lab("scaled"), state("web-01"))
    assert between is not None
    assert between.machine("web-01").roles == (*lab("scaled").machine("web-01").roles, "mysql")
    assert [m.name for m in between.with_role("mysql")] == ["web-01", "db-01", "db-02"]
    assert between.topology.path == lab("scaled").topology.path
    rest = [m for m in between.machines if m.name != "web-01"]
    assert rest == [m for m in lab("scaled").machines if m.name != "web-01"]


def test_down_the_old_primary_stays_with_its_database_alone() -> None:
    between = transition(lab("scaled"), lab("distributed"), state("db-02", "scaled"))
    assert between is not None
    assert [m.name for m in between.machines] == ["lb-01", "web-01", "web-02", "db-02"]
    assert between.machine("db-02").roles == ("mysql", "firewall", "hardening")
    assert between.machines[:3] == lab("distributed").machines


@pytest.mark.parametrize(
    ("old", "new", "primary"),
    [
        ("simple", "distributed", "web-01"),
        ("distributed", "simple", "web-01"),
        ("distributed", "simple", "web-02"),  # somebody has to promote web-01 first
        ("distributed", "secured", "web-02"),
        ("distributed", "scaled", ""),
    ],
)
def test_nothing_lies_between(old: str, new: str, primary: str) -> None:
    assert transition(lab(old), lab(new), state(primary, old)) is None


def test_data_on_a_machine_that_goes_has_to_be_moved_by_somebody(tmp_path: Path) -> None:
    with pytest.raises(LabError) as caught:
        labs.keeps_data(lab("simple"), state("web-02"))
    assert "is written on web-02, which is no database machine in the topology simple" in str(
        caught.value
    )
    here = replace(lab("scaled"), root=tmp_path)
    with pytest.raises(LabError, match="no machine has a database in both") as caught:
        labs.keeps_data(here, state("web-01", "none"))
    assert "invoke db.backup --lab two" in caught.value.advice
    labs.keeps_data(lab("simple"), state("web-01"))
    labs.keeps_data(lab("simple"), state(""))


def test_the_list_of_what_goes() -> None:
    step = Step(lab("distributed"), (Leaving("lb-01", (), "a"), Leaving("web-02", (), "b")))
    assert step.lines() == ["  lb-01   a", "  web-02  b"]
