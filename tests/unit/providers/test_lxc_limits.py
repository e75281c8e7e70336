"""Limits of a lab: control groups of both versions, and where the values come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from provision import topology
from provision.core import classroom
from provision.core.classroom import Class, Team
from provision.core.lab import ROOT, Lab
from provision.core.limits import Limits
from provision.providers.lxc import container_config, limits
from provision.providers.lxc.paths import LabPaths
from provision.providers.lxc.spare import SNAPSHOT, _others, is_of

SOME = Limits(memory=2048, processes=900, disk=4096, cpu=50)


def values(cgroups: Path, of: Limits) -> dict[str, str]:
    settings = limits.settings("lxc.lab.foobar-lab.x", of, cgroups)
    return {str(s.path.relative_to(cgroups)): s.value for s in settings}


def test_control_groups_of_version_1(tmp_path: Path) -> None:
    assert values(tmp_path, SOME) == {
        "memory/lxc.lab.foobar-lab.x/memory.limit_in_bytes": str(2048 * 2**20),
        "pids/lxc.lab.foobar-lab.x/pids.max": "900",
        "cpu/lxc.lab.foobar-lab.x/cpu.shares": "512",
    }
    assert {*values(tmp_path, Limits()).values()} == {"-1", "max", "1024"}
    assert values(tmp_path, Limits(cpu=1))["cpu/lxc.lab.foobar-lab.x/cpu.shares"] == "10"


def test_control_groups_of_version_2(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    assert values(tmp_path, SOME) == {
        "lxc.lab.foobar-lab.x/memory.max": str(2048 * 2**20),
        "lxc.lab.foobar-lab.x/pids.max": "900",
        "lxc.lab.foobar-lab.x/cpu.weight": "50",
    }
    assert {*values(tmp_path, Limits()).values()} == {"max", "100"}


def test_no_limit_is_recognized_as_the_kernel_shows_it() -> None:
    assert limits._normalized("9223372036854771712") == "max"
    assert limits._normalized("-1") == "max"
    assert limits._normalized("2147483648") == "2147483648"


def test_limits_come_from_the_class_then_from_the_topology(tmp_path: Path) -> None:
    loaded = topology.load(topology.find("distributed"))
    limited = replace(loaded, limits=Limits(memory=1000, cpu=10))
    red, other = Lab("red", tmp_path, limited), Lab("other", tmp_path, limited)
    assert classroom.limits_of(red) == limited.limits
    team = Team("red", "red", "10.60.1.0/24", "C", "s")
    record = Class("x", "distributed", (team,), "T", limits=Limits(memory=2000))
    classroom.save(record, tmp_path)
    assert classroom.limits_of(red) == Limits(memory=2000, cpu=10)
    assert classroom.limits_of(other) == limited.limits


def test_limits_of_a_topology_file(tmp_path: Path) -> None:
    text = (ROOT / "configs/topologies/simple.yml").read_text()
    file = tmp_path / "limited.yml"
    file.write_text(text + "limits: {memory: 900, processes: 400}\n")
    assert topology.load(file).limits == Limits(memory=900, processes=400)


# --- sets of machines ----------------------------------------------------------------------------


def lab_at(root: Path) -> Lab:
    return Lab("red", root, topology.load(topology.find("distributed")))


def test_another_set_shares_nothing_but_the_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provision.providers.lxc.paths.HOST", tmp_path)
    lab = lab_at(tmp_path)
    first = LabPaths.of(lab)
    spare = LabPaths(lab.id, 1)
    web = lab.machine("web-01")
    assert first.number == 0
    assert spare.machine("web-01").parent.parent == first.directory
    assert spare.veth(web.address) != first.veth(web.address)
    assert len(spare.veth(web.address)) <= 15 and len(spare.spare_bridge) <= 15  # noqa: PT018
    assert spare.cgroup("payload", "web-01") != first.cgroup("payload", "web-01")
    config = container_config.render_config(lab, web, (), spare)
    assert "lxc.net.0.link" not in config
    assert f"lxc.net.0.script.up = {first.directory}/plug.sh {spare.link}\n" in config
    assert f"lxc.net.0.hwaddr = {first.mac(web.address)}\n" in config, "no stale ARP entries"


def test_the_current_set_is_recorded_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provision.providers.lxc.paths.HOST", tmp_path)
    lab = lab_at(tmp_path)
    folder = LabPaths.of(lab).directory
    (folder / ".set-1").mkdir(parents=True)
    (folder / "current").write_text("1\n")
    assert LabPaths.of(lab).number == 1
    assert LabPaths.of(lab).machine("web-01") == folder / ".set-1" / "web-01"
    assert [other.number for other in _others(LabPaths.of(lab))] == [0]
    (folder / "current").write_text("")
    assert LabPaths.of(lab).number == 0


def test_a_spare_belongs_to_one_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provision.providers.lxc.paths.HOST", tmp_path)
    own = LabPaths.of(lab_at(tmp_path))
    (own.snapshots / "good@2").mkdir(parents=True)
    assert not is_of(own, "good")
    (own.directory / ".set-1").mkdir()
    assert not is_of(own, "good"), "a set without the mark was not completed"
    (own.directory / ".set-1" / SNAPSHOT).write_text("good@2\n")
    assert is_of(own, "good")
    (own.directory / ".set-1" / SNAPSHOT).write_text("good@1\n")
    assert not is_of(own, "good"), "a later snapshot of the same name is another one"
    assert not is_of(own, "other")
