"""Changes of topology: the intermediate topology, and the list of removed machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from provision import topology
from provision.core.errors import LabError
from provision.core.lab import Lab
from provision.core.state import State
from provision.operations.topology_change import (
    RemovedMachine,
    TopologyChange,
    intermediate_topology,
)
from provision.topology.record import require_primary_in


def lab(name: str) -> Lab:
    return Lab("two", Path("/nowhere"), topology.load(topology.find(name)))


def state(primary: str, name: str = "distributed") -> State:
    return State(topology=name, provider="lxc", primary=primary)


def test_the_old_primary_keeps_its_database_at_first() -> None:
    intermediate = intermediate_topology(lab("distributed"), lab("scaled"), state("web-01"))
    assert intermediate is not None
    assert intermediate.machine("web-01").roles == (*lab("scaled").machine("web-01").roles, "mysql")
    assert [m.name for m in intermediate.with_role("mysql")] == ["web-01", "db-01", "db-02"]
    assert intermediate.topology.path == lab("scaled").topology.path
    rest = [m for m in intermediate.machines if m.name != "web-01"]
    assert rest == [m for m in lab("scaled").machines if m.name != "web-01"]


def test_a_removed_primary_stays_with_its_database_only() -> None:
    intermediate = intermediate_topology(
        lab("scaled"), lab("distributed"), state("db-02", "scaled")
    )
    assert intermediate is not None
    assert [m.name for m in intermediate.machines] == ["lb-01", "web-01", "web-02", "db-02"]
    assert intermediate.machine("db-02").roles == ("mysql", "firewall", "hardening")
    assert intermediate.machines[:3] == lab("distributed").machines


@pytest.mark.parametrize(
    ("old", "new", "primary"),
    [
        ("simple", "distributed", "web-01"),
        ("distributed", "simple", "web-01"),
        ("distributed", "simple", "web-02"),  # web-01 has to be promoted first
        ("distributed", "secured", "web-02"),
        ("distributed", "scaled", ""),
    ],
)
def test_no_intermediate_topology_when_a_database_remains(old: str, new: str, primary: str) -> None:
    assert intermediate_topology(lab(old), lab(new), state(primary, old)) is None


def test_a_primary_that_is_removed_must_be_moved_first(tmp_path: Path) -> None:
    with pytest.raises(LabError) as caught:
        require_primary_in(lab("simple"), state("web-02"))
    assert "is web-02, which is not a database machine of the topology simple" in str(caught.value)
    here = replace(lab("scaled"), root=tmp_path)
    with pytest.raises(LabError, match="no machine has a database in both") as caught:
        require_primary_in(here, state("web-01", "none"))
    assert "invoke db.backup;" in caught.value.hint
    require_primary_in(lab("simple"), state("web-01"))
    require_primary_in(lab("simple"), state(""))


def test_one_line_per_removed_machine() -> None:
    removed = (RemovedMachine("lb-01", "a"), RemovedMachine("web-02", "b"))
    change = TopologyChange(lab("distributed"), removed)
    assert change.lines() == ["  lb-01   a", "  web-02  b"]
