"""The incus provider, against a small Incus server with real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision import topology as topologies
from provision.classroom import capacity
from provision.core.errors import LabError, ProviderError, UsageError
from provision.core.lab import ROOT, Lab
from provision.core.limits import Limits
from provision.core.package_set import PackageSet
from provision.providers.incus import (
    images,
    instance,
    limits,
    network,
    placement,
    preflight,
    provider,
    record,
)
from provision.providers.incus.client import IncusClient
from provision.providers.incus.provider import IncusProvider
from provision.providers.incus.record import LabRecord
from provision.providers.incus.remote import Remote
from tests.unit.providers.fake_incus import FakeIncus, serving

PACKAGES = PackageSet(("nginx",))


def quiet(_machine: str, _message: str) -> None:
    """Print nothing."""


@pytest.fixture
def fake() -> FakeIncus:
    return FakeIncus("m1", "m2")


@pytest.fixture
def client(
    fake: FakeIncus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[IncusClient]:
    """A client of the fake; LAB_INCUS names it, and everything that needs root does nothing."""
    path = tmp_path / "unix.socket"
    for name in ("LAB_INCUS_PROJECT", "LAB_INCUS_MEMBER", "LAB_INCUS_PLACEMENT", "LAB_INCUS_POOL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LAB_INCUS", str(path))
    monkeypatch.setattr(provider, "PLACEMENT_LOCK", tmp_path / "placement.lock")
    monkeypatch.setattr(images, "LOCK", tmp_path / "images.lock")
    monkeypatch.setattr(network, "route", lambda _lab, _record: None)
    monkeypatch.setattr(network, "unroute", lambda _lab, _record: None)
    monkeypatch.setattr(instance, "wait_for_sshd", lambda _lab, _machine: None)
    monkeypatch.setattr(images, "import_image", imported)
    with serving(fake, path):
        yield IncusClient(Remote("", str(path)))


def imported(client: IncusClient, name: str, roots: list[str]) -> None:
    """Import an image without its content."""
    assert len(roots) == 2
    client.post("/images/aliases", {"name": name, "target": "f"})


@pytest.fixture
def own(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab whose images exist on this host."""
    from provision.providers.lxc import images as layers
    from provision.providers.lxc import paths

    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))
    paths.cache().mkdir()
    roots = (tmp_path / "layer", tmp_path / "base")
    monkeypatch.setattr(
        layers, "root_file_systems", lambda sets, _report: dict.fromkeys(sets.values(), roots)
    )
    root = tmp_path / "checkout"
    (root / ".lab" / lab.name).mkdir(parents=True)
    return replace(lab, root=root)


def up(lab: Lab) -> IncusProvider:
    incus = IncusProvider()
    incus.up(lab, quiet, dict.fromkeys(("lb-01", "web-01"), PACKAGES))
    return incus


def test_a_lab_has_one_member_and_one_network(
    client: IncusClient, fake: FakeIncus, own: Lab
) -> None:
    incus = up(own)
    assert incus.state(own) == {"lb-01": "running", "web-01": "running"}
    assert {row["location"] for row in fake.instances.values()} == {"m1"}
    (bridge,) = fake.networks.values()
    assert bridge["name"] == f"lab-{own.id}"
    assert bridge["targets"] == ["m1", "m2"]
    assert bridge["config"]["ipv4.address"] == "192.168.56.1/24"
    web = fake.instances[f"lab-{own.id}-web-01"]
    assert "lxc.net.0.ipv4.address = 192.168.56.11/24" in web["config"]["raw.lxc"]
    assert web["devices"]["root"]["pool"] == "default"
    files = fake.files[f"lab-{own.id}-web-01"]
    assert files["/etc/hostname"][0] == "web-01\n"
    text, headers = files["/home/lab/.ssh/authorized_keys"]
    assert text.startswith("ssh-ed25519 ")
    assert (headers["X-Incus-mode"], headers["X-Incus-uid"]) == ("0600", "1000")
    endpoint = incus.endpoints(own)["web-01"]
    assert endpoint.host_key == files["/etc/ssh/ssh_host_ed25519_key.pub"][0].strip()
    placed = record.load(own)
    assert placed is not None
    assert (placed.member, placed.remote.socket) == ("m1", client.remote.socket)


def test_a_second_run_creates_nothing(client: IncusClient, fake: FakeIncus, own: Lab) -> None:
    up(own)
    fake.requests.clear()
    up(own)
    created = [(m, p) for m, p in fake.requests if m == "POST"]
    assert created == []


def test_a_lab_comes_up_again_while_another_member_is_down(
    client: IncusClient, fake: FakeIncus, own: Lab
) -> None:
    incus = up(own)
    incus.kill(own, "web-01")
    fake.members["m2"].update(status="Offline", message="No heartbeat for 30s")
    fake.failures["PATCH", f"/1.0/networks/lab-{own.id}"] = (500, "peer node m2 is down")
    up(own)
    assert incus.state(own)["web-01"] == "running"


def test_an_interrupted_creation_is_repeated(
    client: IncusClient, fake: FakeIncus, own: Lab
) -> None:
    incus = up(own)
    web = fake.instances[f"lab-{own.id}-web-01"]
    del web["config"]["user.foobar-lab.complete"]
    web["status"] = "Stopped"
    assert incus.state(own)["web-01"] == "absent"
    with pytest.raises(ProviderError, match="has not been created yet"):
        incus.start(own, "web-01")
    up(own)
    assert fake.instances[f"lab-{own.id}-web-01"] is not web
    assert incus.state(own)["web-01"] == "running"


def test_power_and_removal(client: IncusClient, fake: FakeIncus, own: Lab) -> None:
    incus = up(own)
    incus.kill(own, "web-01")
    assert incus.state(own) == {"lb-01": "running", "web-01": "halted"}
    assert list(incus.endpoints(own)) == ["lb-01"]
    with pytest.raises(ProviderError, match="web-01 is not running"):
        incus.root_command(own, "web-01", ["id"])
    incus.start(own, "web-01")
    incus.halt(own, quiet)
    assert incus.state(own) == {"lb-01": "halted", "web-01": "halted"}
    smaller = replace(own, topology=replace(own.topology, machines=own.machines[:1]))
    assert incus.orphaned_machines(smaller) == ["web-01"]
    incus.destroy(own, quiet)
    incus.destroy(own, quiet)
    assert (fake.instances, fake.networks, record.load(own)) == ({}, {}, None)


def test_snapshots_are_taken_while_all_machines_are_frozen(
    client: IncusClient, fake: FakeIncus, own: Lab
) -> None:
    incus = up(own)
    stored = incus.snapshot(own, "good", quiet)
    assert {s["good"]["taken_while"] for s in fake.snapshots.values()} == {"Frozen"}
    assert incus.frozen_machines(own) == []
    assert incus.snapshots(own) == ["good"]
    with pytest.raises(UsageError, match="snapshot good already exists"):
        incus.snapshot(own, "good", quiet)
    incus.prepare_restore(own, "good", stored.machines, quiet)
    incus.restore(own, "good", stored.machines, quiet)
    assert {row["restored"] for row in fake.instances.values()} == {"good"}
    assert incus.state(own) == {"lb-01": "running", "web-01": "running"}
    other = {m: replace(s, fingerprint="x") for m, s in stored.machines.items()}
    with pytest.raises(ProviderError, match=r"no snapshot good of lb-01, web-01.*nothing was"):
        incus.prepare_restore(own, "good", other, quiet)
    with pytest.raises(ProviderError, match="has no spares"):
        incus.prepare_spare(own, "good", stored.machines, {}, quiet)
    assert incus.delete_snapshot(own, "good", quiet)
    assert incus.snapshots(own) == []


def test_a_snapshot_that_fails_leaves_nothing_frozen(
    client: IncusClient, fake: FakeIncus, own: Lab
) -> None:
    incus = up(own)
    path = f"/1.0/instances/lab-{own.id}-web-01/snapshots"
    fake.failures["POST", path] = (500, "no space left on device")
    with pytest.raises(ProviderError, match="no space left on device"):
        incus.snapshot(own, "good", quiet)
    assert incus.frozen_machines(own) == []
    assert incus.snapshots(own) == []


def test_labs_are_spread_over_members(client: IncusClient, fake: FakeIncus, own: Lab) -> None:
    places = []
    for name in ("red", "blue", "green"):
        team = replace(own, name=name)
        (team.root / ".lab" / name).mkdir()
        up(team)
        placed = record.load(team)
        assert placed is not None
        places.append(placed.member)
    assert places == ["m1", "m2", "m1"]


def test_a_network_without_machines_counts(client: IncusClient, fake: FakeIncus, own: Lab) -> None:
    network.create(client, own, placement.members(client), "m1")
    chosen = placement.choose(client, placement.members(client), {})
    assert chosen is not None
    assert chosen.name == "m2"


def test_options_of_placement(client: IncusClient, fake: FakeIncus) -> None:
    fake.free_memory = {"m1": 1000, "m2": 5000}

    def name(**environ: str) -> str:
        chosen = placement.choose(client, placement.members(client), environ)
        return chosen.name if chosen else ""

    assert name() == "m1"
    assert name(LAB_INCUS_PLACEMENT="memory") == "m2"
    assert name(LAB_INCUS_MEMBER="m2") == "m2"
    with pytest.raises(UsageError, match="did you mean memory"):
        name(LAB_INCUS_PLACEMENT="memroy")
    with pytest.raises(UsageError, match="no member 'm3' in the cluster") as refused:
        name(LAB_INCUS_MEMBER="m3")
    assert "choose from m1, m2" in refused.value.hint
    fake.members["m1"].update(status="Offline", message="No heartbeat for 30s")
    assert name() == "m2"
    with pytest.raises(ProviderError, match="m1: No heartbeat for 30s"):
        name(LAB_INCUS_MEMBER="m1")
    fake.members.clear()
    assert name() == ""
    with pytest.raises(UsageError, match=r"'m1', and .* is not a cluster"):
        name(LAB_INCUS_MEMBER="m1")


def test_room_for_a_class(client: IncusClient, fake: FakeIncus) -> None:
    fake.free_memory = {"m1": 4000 * 2**20, "m2": 900 * 2**20, "": 7000 * 2**20}
    assert placement.available_mib() == (4000, 900)
    topology = topologies.load(topologies.find("distributed", ROOT))
    (needs,) = capacity.in_members(topology, Limits(), (4000, 4000, 900))
    assert needs.fits == 2 * ((4000 - capacity.RESERVE_MIB) // needs.needed)
    with pytest.raises(LabError, match=r"Incus has room for \d labs, and 30 would be"):
        capacity.require_room(30, 0, (needs,), "Incus")
    fake.members.clear()
    assert placement.available_mib() == (7000,)


def test_a_member_that_is_lost(client: IncusClient, fake: FakeIncus, own: Lab) -> None:
    incus = up(own)
    for row in fake.instances.values():
        row["status"] = "Error"
    fake.members["m1"].update(status="Offline", message="No heartbeat for 30s")
    for ask in (incus.state, incus.endpoints):
        with pytest.raises(ProviderError) as lost:
            ask(own)
        assert "is on member m1 of the Incus cluster, which does not respond: No" in lost.value.what
        assert "incus cluster remove --force m1" in lost.value.hint
    other = replace(own, name="other")
    (other.root / ".lab" / "other").mkdir()
    with pytest.raises(ProviderError, match="needs every member of the Incus cluster"):
        up(other)
    del fake.members["m1"]
    fake.instances.clear()
    assert incus.state(own) == {"lb-01": "absent", "web-01": "absent"}
    for bridge in fake.networks.values():
        bridge["targets"] = ["m2"]
    up(own)
    assert {row["location"] for row in fake.instances.values()} == {"m2"}


def what(lab: Lab) -> list[str]:
    return [problem.what for problem in preflight.problems(lab)]


def test_preflight_names_what_is_missing(
    client: IncusClient, fake: FakeIncus, own: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(preflight, "ROUTES", tmp_path / "routes")
    (tmp_path / "routes").write_text("Iface\n")
    assert what(own) == []
    fake.pools[:] = ["a", "b"]
    assert "several storage pools" in what(own)[0]
    monkeypatch.setenv("LAB_INCUS_POOL", "c")
    assert "no storage pool 'c'" in what(own)[0]
    monkeypatch.setenv("LAB_INCUS_POOL", "b")
    assert what(own) == []
    fake.networks["other"] = {"name": "other", "config": {"ipv4.address": "192.168.56.129/25"}}
    assert what(own) == ["the network 192.168.56.0/24 is already in use: other (192.168.56.129/25)"]
    del fake.networks["other"]
    fake.members["m2"].update(status="Offline", message="No heartbeat")
    (problem,) = preflight.problems(own)
    assert not problem.fatal
    assert "member m2 of the Incus cluster is offline" in problem.what
    monkeypatch.setenv("LAB_INCUS", "/nowhere")
    assert "Incus is unreachable at /nowhere" in what(own)[0]


def test_limits_are_shared_by_the_instances(client: IncusClient, fake: FakeIncus, own: Lab) -> None:
    limit = Limits(memory=3000, processes=900, disk=4096, cpu=50)
    config = limits.instance_config(own, own.machines[1], limit)
    assert config == {
        "limits.memory": "1500MiB",
        "limits.processes": "450",
        "limits.cpu.allowance": "50%",
    }
    assert limits.disk_size(own, limit) == "2048MiB"
    up(own)
    assert "limits.memory" not in fake.instances[f"lab-{own.id}-web-01"]["config"]
    limited = replace(own, topology=replace(own.topology, limits=limit))
    up(limited)
    assert fake.instances[f"lab-{own.id}-web-01"]["config"]["limits.memory"] == "1500MiB"
    more = replace(own, topology=replace(own.topology, limits=Limits(cpu=200)))
    assert any("limit cpu: 200" in text for text in what(more))


def test_images_are_imported_once(client: IncusClient, fake: FakeIncus, own: Lab) -> None:
    up(own)
    assert len(fake.aliases) == 1
    fake.requests.clear()
    other = replace(own, name="other")
    (other.root / ".lab" / "other").mkdir()
    up(other)
    assert ("POST", "/1.0/images/aliases") not in fake.requests


def test_an_image_that_cannot_be_built_here(
    client: IncusClient, own: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(ProviderError, match="macOS cannot build it") as refused:
        images.ensure(client, {"web-01": PACKAGES}, quiet)
    assert "on a Linux computer" in refused.value.hint


def test_a_network_with_another_address_is_not_changed(
    client: IncusClient, fake: FakeIncus, own: Lab
) -> None:
    up(own)
    moved = replace(own, topology=replace(own.topology, network=IPv4Network("10.1.2.0/24")))
    with pytest.raises(ProviderError, match=r"has the address 192.168.56.1/24"):
        network.create(client, moved, placement.members(client), "m1")


def test_routes(own: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = LabRecord(Remote("class", "https://10.1.0.2:8443"), "m2", "10.1.0.2")
    file = tmp_path / "routes"
    file.write_text(
        "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
        "eth0 00000000 0100A8C0 0003 0 0 0 00000000 0 0 0\n"
        "eth0 0038A8C0 0200010A 0003 0 0 0 00FFFFFF 0 0 0\n"
    )
    present = network.routes(file)
    assert present[own.network] == "10.1.0.2"
    monkeypatch.setattr(network, "routes", lambda: present)
    assert network.problem(own, placed) == ""
    present[own.network] = "10.1.0.9"
    assert network.problem(own, placed) == (
        "this computer has no route for 192.168.56.0/24 through m2 (10.1.0.2)"
    )
    assert network.route_command(own, placed, "macOS").endswith("192.168.56.0/24 10.1.0.2")
    assert "mask 255.255.255.0 10.1.0.2" in network.route_command(own, placed, "Windows")
    single = network.targets(own, bridge_here=True)
    assert [str(target) for target in single] == ["192.168.56.10/32", "192.168.56.11/32"]


def test_a_lost_record_of_a_lab(own: Lab) -> None:
    assert IncusProvider().network_problem(own) == "lab default has no network in Incus yet"
    (own.directory / record.FILE).write_text("{")
    with pytest.raises(LabError, match="is damaged"):
        IncusProvider().state(own)
