"""The record of a class: new teams get free networks and codes, others keep theirs."""

from __future__ import annotations

import shutil
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision.classroom import capacity, definition, planning
from provision.classroom.capacity import Room
from provision.core import classroom, state
from provision.core.access_codes import TEAM, access_code
from provision.core.classroom import Class
from provision.core.errors import LabError, UsageError
from provision.core.lab import ROOT, Lab
from provision.core.limits import Limits
from provision.core.state import State
from provision.topology import networks
from provision.topology.labs import open_lab


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout without labs, on a host without labs and routes."""
    monkeypatch.setattr(networks, "HOST", tmp_path / "host")
    monkeypatch.setattr(networks, "ROUTES", tmp_path / "routes")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    return tmp_path


def planned(root: Path, count: int, existing: Class | None = None, **options: str) -> Class:
    record = planning.plan(definition.of(str(count), **options), existing, root)
    record = planning.issue(record, root)
    classroom.save(record, root)
    return record


def test_each_team_has_its_lab_network_code_and_key(root: Path) -> None:
    record = planned(root, 3)
    assert [team.lab for team in record.teams] == ["team-01", "team-02", "team-03"]
    places = [IPv4Network(team.network) for team in record.teams]
    assert len({*places}) == 3
    assert all(place.subnet_of(definition.POOL) for place in places)
    assert len({record.code, *(team.code for team in record.teams)}) == 4
    for team in record.teams:
        assert team.key(root).exists()
        assert team.code == access_code(root / ".lab" / team.lab, TEAM)


def test_existing_teams_keep_what_they_have(root: Path) -> None:
    first = planned(root, 2)
    second = planned(root, 4, first)
    assert second.teams[:2] == first.teams
    assert second.code == first.code
    assert len({team.network for team in second.teams}) == 4
    with pytest.raises(UsageError, match="teams that are not among the new ones: team-04"):
        planned(root, 3, second)
    with pytest.raises(UsageError, match=r"the class has topology .*distributed"):
        planned(root, 4, second, topology="simple")


def test_used_networks_are_not_handed_out(root: Path) -> None:
    host = root / "host" / "x"
    host.mkdir(parents=True)
    (host / "network").write_text("10.77.0.0/24\n")
    state.save(root / ".lab" / "other", State(network="10.77.2.0/24"))
    record = planned(root, 2)
    assert [team.network for team in record.teams] == ["10.77.1.0/24", "10.77.3.0/24"]
    shutil.rmtree(root / ".lab" / "team-01")
    small = {"network": "10.98.0.0/24"}
    with pytest.raises(UsageError, match="free networks for 1 more labs, and 2 are needed"):
        planning.plan(definition.of("2", **small), None, root)
    assert not (root / ".lab" / "team-01").exists(), "a plan writes nothing"


def test_a_lab_of_a_class_is_on_its_network_and_no_other_lab_is(root: Path) -> None:
    record = planned(root, 1)
    lab, _ = open_lab("team-01", root=root)
    assert str(lab.network) == record.teams[0].network
    with pytest.raises(UsageError, match="which lab team-01 uses"):
        open_lab("another", root=root, network=record.teams[0].network)
    other = Lab("another", root, lab.topology)
    assert networks.recorded_networks(other) == {"team-01": lab.network}


def test_a_lab_that_exists_is_not_taken_over(root: Path) -> None:
    state.save(root / ".lab" / "team-02", State(network="192.168.60.0/24"))
    with pytest.raises(UsageError, match="are of no class: team-02"):
        planned(root, 2)


# --- room ----------------------------------------------------------------------------------------


def needs(room: Room, limits: Limits | None = None) -> tuple[capacity.SharedResource, ...]:
    topology = definition.of("1").topology
    assert topology is not None
    return capacity.resources(topology, limits or Limits(), room)


def test_too_many_labs_are_refused_and_it_says_how_many_fit() -> None:
    lab = {resource.name: resource.needed for resource in needs(Room())}
    capacity.require_room(250, 0, needs(Room()))  # nothing is known: nothing is refused
    host = Room(memory=3 * lab["memory"] + 1, inotify=2 * lab["inotify instances"])
    capacity.require_room(2, 0, needs(host))
    with pytest.raises(LabError) as caught:
        capacity.require_room(4, 0, needs(host))
    what = caught.value.what
    assert what.startswith("this host has room for 2 labs, and 4 would be started:")
    assert f"memory: {host.memory} MiB free, and a lab needs {lab['memory']} MiB: enough for 3" in (
        what
    )
    assert "inotify instances" in what
    assert "disk" not in what
    assert caught.value.hint == "invoke class.up 2"
    with pytest.raises(LabError, match="room for 0 more labs"):
        capacity.require_room(1, 5, needs(Room(memory=-100)))


def test_a_disk_limit_bounds_what_a_lab_needs() -> None:
    resources = {r.name: r.needed for r in needs(Room(), Limits(disk=600))}
    assert resources["disk"] == 600


def test_what_is_free_on_this_host_is_read(tmp_path: Path) -> None:
    files = {
        "meminfo": "MemTotal: 9 kB\nMemAvailable:  5242880 kB\n",
        "loadavg": "0.1 0.1 0.1 2/345 99\n",
        "key-users": "    0:   197 196/196 191/1000000 4022/25000000\n  999: 9 4/4 44/200 3/2\n",
        "sys/fs/inotify/max_user_instances": "128\n",
        "sys/fs/aio-nr": "4600\n",
        "sys/fs/aio-max-nr": "65536\n",
        "sys/kernel/keys/root_maxkeys": "1000000\n",
        "sys/kernel/keys/maxkeys": "200\n",
        "sys/kernel/pid_max": "32768\n",
        "sys/kernel/threads-max": "192729\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "17" / "fd").mkdir(parents=True)
    (tmp_path / "17" / "fd" / "3").symlink_to("anon_inode:inotify")
    host = capacity.read_room(10240, {"fs.inotify.max_user_instances": 2048}, tmp_path)
    assert host == Room(
        memory=4096,
        disk=8192,
        inotify=2047,
        aio=60936,
        keys=999809,
        user_keys=156,
        processes=32423,
    )
    assert capacity.read_room(10240, {}, tmp_path / "none") == Room(disk=8192)
    assert capacity.read_room(10240, {}).memory
