"""The lxc provider on this host: the life cycle of containers, and their complete removal."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision.core.endpoint import Endpoint
from provision.core.errors import ProviderError, UsageError
from provision.core.lab import ROOT, Lab, Machine, Topology
from provision.core.package_set import PackageSet
from provision.core.stored_machine import StoredMachine
from provision.providers.image_recipe import load_recipe, mirror
from provision.providers.lxc import (
    host_facts,
    images,
    network,
    orphaned_labs,
    paths,
    preflight,
    prune,
    snapshot,
)
from provision.providers.lxc.container import SOCKETS
from provision.providers.lxc.paths import LabPaths
from provision.providers.lxc.privileged import run
from provision.providers.lxc.provider import LxcProvider

pytestmark = pytest.mark.live

PROVIDER = LxcProvider()
NAMES = ("alpha", "beta")


def report(machine: str, doing: str) -> None:
    """Progress, shown by pytest when a test fails."""
    print(f"{machine}: {doing}")


def free_network() -> IPv4Network:
    """A network that is not in use on this host."""
    used = [network for network, _ in host_facts.used_networks("")]
    networks = IPv4Network("192.168.60.0/22").subnets(new_prefix=24)
    return next(n for n in networks if not any(n.overlaps(u) for u in used))


def new_lab(root: Path, names: tuple[str, ...] = NAMES) -> Lab:
    """A separate lab, whose machines are not configured."""
    addresses = free_network()
    machines = tuple(Machine(n, addresses[10 + i], ("nginx",)) for i, n in enumerate(names))
    return Lab("default", root, Topology("t", "foobar.com", addresses, machines))


def footprint(lab: Lab) -> dict[str, list[str]]:
    """Everything on this host whose name contains the lab's id."""
    objects: dict[str, list[str]] = {"processes": [], "groups": []}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            groups = (process / "cgroup").read_text()
            command = (process / "cmdline").read_text().replace("\0", " ")
            # Without a command line it is a zombie.
            if command and (lab.id in groups or f"/{lab.id}" in command):
                objects["processes"].append(f"{process.name} {command}")
    for folder, folders, _ in os.walk("/sys/fs/cgroup"):
        objects["groups"] += [f"{folder}/{name}" for name in folders if lab.id in name]
    objects["links"] = [p.name for p in Path("/sys/class/net").iterdir() if lab.id in p.name]
    rules = run("listing", ["nft", "list", "ruleset"]).stdout.splitlines()
    objects["rules"] = [line for line in rules if lab.id in line]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    objects["mounts"] = [line for line in mounts if lab.id in line]
    objects["sockets"] = [s for s in SOCKETS.read_text().splitlines() if lab.id in s]
    objects["folders"] = [str(p) for p in paths.HOST.glob("*") if lab.id in p.name]
    return {kind: names for kind, names in objects.items() if names}


def ssh(lab: Lab, endpoint: Endpoint, command: str) -> str:
    """The output of a command on a machine, which must present the recorded host key."""
    assert PROVIDER.network_problem(lab) == ""
    known = lab.directory / "known_hosts"
    known.write_text(f"{endpoint.address} {endpoint.host_key}\n")
    options = ["StrictHostKeyChecking=yes", f"UserKnownHostsFile={known}", "BatchMode=yes"]
    words = ["ssh", "-i", str(endpoint.key), *(f"-o{o}" for o in [*options, "ConnectTimeout=5"])]
    target = f"{endpoint.user}@{endpoint.address}"
    result = subprocess.run([*words, target, command], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def up(lab: Lab, preload: Mapping[str, PackageSet] | None = None) -> Mapping[str, Endpoint]:
    """Bring the lab up; all its machines must be running."""
    endpoints = PROVIDER.up(lab, report, preload or {})
    assert sorted(endpoints) == sorted(m.name for m in lab.machines)
    return endpoints


def unused() -> set[Path]:
    """The images and layers that could be pruned."""
    return {image.path for image in prune.unused_images()}


@contextlib.contextmanager
def removed_afterwards(lab: Lab) -> Iterator[Lab]:
    """Destroy the lab at the end, and check that nothing is left."""
    assert footprint(lab) == {}
    try:
        yield lab
    finally:
        PROVIDER.destroy(lab, report)
    assert footprint(lab) == {}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two machines that the tests of this file share."""
    with removed_afterwards(new_lab(tmp_path_factory.mktemp("checkout"))) as made:
        yield made


@pytest.fixture
def separate_lab(tmp_path: Path) -> Iterator[Lab]:
    """Two machines without the history of the others: small, and in no snapshot."""
    with removed_afterwards(new_lab(tmp_path)) as made:
        yield made


def test_machines_are_debian_with_systemd_names_and_tools(lab: Lab) -> None:
    endpoints = up(lab)
    assert PROVIDER.state(lab) == {"alpha": "running", "beta": "running"}
    command = """
        hostname; . /etc/os-release; echo $VERSION_CODENAME; sudo -n id -un
        systemctl is-system-running --wait; ip -4 -br addr show eth0 | awk '{print $3}'
        for tool in ss ip curl dig tcpdump strace lsof less vim nano ps journalctl ping nc; do
            command -v $tool >/dev/null || PATH=$PATH:/usr/sbin command -v $tool >/dev/null ||
                echo no $tool
        done
        ls /var/log/journal | wc -l; sudo passwd -S lab | cut -d' ' -f2; ls /etc/ssh/*_key
        ping -c1 -W2 %s >/dev/null && echo peer
    """
    for name, peer in (("alpha", "beta"), ("beta", "alpha")):
        expected = [name, "trixie", "root", "running", f"{endpoints[name].address}/24"]
        expected += ["1", "L", "/etc/ssh/ssh_host_ed25519_key", "peer"]
        shown = ssh(lab, endpoints[name], command % endpoints[peer].address)
        assert shown.split("\n") == expected
    ids = {ssh(lab, e, "cat /etc/machine-id") for e in endpoints.values()}
    assert len(ids) == 2
    assert len({e.host_key for e in endpoints.values()}) == 2
    assert set(footprint(lab)) == {*("processes", "groups", "links", "rules", "sockets", "folders")}


def test_packages_can_be_fetched_from_inside(lab: Lab) -> None:
    host = mirror().split("/")[2]
    shown = ssh(
        lab,
        up(lab)["alpha"],
        f"getent hosts {host} >/dev/null && echo named; sudo apt-get -qq update 2>&1 | tail -3",
    )
    assert shown == "named"


def test_a_second_up_changes_nothing(lab: Lab) -> None:
    before = up(lab)
    boot = ssh(lab, before["alpha"], "cat /proc/sys/kernel/random/boot_id; stat -c %Y /run/dbus")
    begun = time.monotonic()
    assert up(lab) == before
    assert time.monotonic() - begun < 3
    again = ssh(lab, before["alpha"], "cat /proc/sys/kernel/random/boot_id; stat -c %Y /run/dbus")
    assert again == boot


def test_halt_and_up_keep_data_and_keys(lab: Lab) -> None:
    before = up(lab)
    ssh(lab, before["alpha"], "echo kept | sudo tee /srv/data >/dev/null")
    PROVIDER.halt(lab, report, ["beta"])
    assert PROVIDER.state(lab) == {"alpha": "running", "beta": "halted"}
    assert PROVIDER.network_problem(lab) == ""
    PROVIDER.halt(lab, report)
    assert PROVIDER.state(lab) == {"alpha": "halted", "beta": "halted"}
    assert PROVIDER.endpoints(lab) == {}
    assert "does not exist" in PROVIDER.network_problem(lab)
    assert set(footprint(lab)) - {"groups"} == {"folders"}
    assert up(lab) == before
    assert ssh(lab, before["alpha"], "cat /srv/data") == "kept"


def test_kill_and_start_one_machine(lab: Lab) -> None:
    endpoints = up(lab)
    ping = f"ping -c1 -W2 {endpoints['beta'].address}"
    ssh(lab, endpoints["alpha"], ping)
    PROVIDER.kill(lab, "beta")
    assert PROVIDER.state(lab) == {"alpha": "running", "beta": "halted"}
    PROVIDER.start(lab, "beta")
    # Its peer, which knows its MAC address, reaches it at once.
    ssh(lab, endpoints["alpha"], ping)
    assert ssh(lab, endpoints["beta"], "hostname") == "beta"


def test_a_reboot_of_the_host_loses_nothing(lab: Lab) -> None:
    endpoints = up(lab)
    ssh(lab, endpoints["alpha"], "echo synced | sudo tee /srv/reboot >/dev/null; sync /srv/reboot")
    names = LabPaths.of(lab)
    pids = [line.split()[0] for line in footprint(lab)["processes"]]
    run("rebooting", ["kill", "-9", *pids], ok=())
    run("rebooting", ["ip", "link", "delete", "dev", names.bridge])
    run("rebooting", ["nft", "delete", "table", "ip", names.table])
    run("rebooting", ["install", "-m", "644", "/dev/stdin", names.dnsmasq_pid], stdin=b"1\n")
    wait_for(lambda: not set(footprint(lab)) & {"processes", "sockets", "links"})
    assert PROVIDER.state(lab) == {"alpha": "halted", "beta": "halted"}
    assert PROVIDER.network_problem(lab)
    assert up(lab) == endpoints
    assert ssh(lab, endpoints["alpha"], "cat /srv/reboot") == "synced"


def test_a_deleted_bridge_is_restored_under_running_machines(lab: Lab) -> None:
    endpoints = up(lab)
    run("deleting the bridge", ["ip", "link", "delete", "dev", LabPaths.of(lab).bridge])
    assert PROVIDER.network_problem(lab)
    assert up(lab) == endpoints
    assert ssh(lab, endpoints["beta"], "hostname") == "beta"


def test_a_machine_starts_again_after_its_monitor_was_killed(lab: Lab) -> None:
    up(lab)
    monitor = f"[lxc monitor] {LabPaths.of(lab).directory} alpha"
    lines = [line for line in footprint(lab)["processes"] if monitor in line]
    assert len(lines) == 1
    run("killing the monitor", ["kill", "-9", lines[0].split()[0]])
    wait_for(lambda: PROVIDER.state(lab)["alpha"] == "halted")
    assert ssh(lab, up(lab)["alpha"], "hostname") == "alpha"


def test_restore_reverts_changed_removed_and_emptied_files(lab: Lab) -> None:
    endpoints = up(lab)
    # Removed files and an emptied folder of the image: overlayfs stores whiteouts and attributes.
    folder = "/usr/share/bash-completion"
    before = f"echo one | sudo tee /srv/s >/dev/null; sudo rm -r {folder} /usr/bin/lsof"
    ssh(lab, endpoints["beta"], f"{before}; sudo mkdir {folder}")
    snapshot = PROVIDER.snapshot(lab, "one", report)
    assert PROVIDER.snapshots(lab) == ["one"]
    with pytest.raises(UsageError, match="already"):
        PROVIDER.snapshot(lab, "one", report)
    after = "echo two | sudo tee /srv/s /usr/bin/lsof >/dev/null; sudo rm -r /usr/share/base-files"
    ssh(lab, endpoints["beta"], f"{after}; sudo touch {folder}/new")
    PROVIDER.prepare_restore(lab, "one", snapshot.machines, report)
    PROVIDER.restore(lab, "one", snapshot.machines, report)
    shown = f"cat /srv/s; ls -d /usr/share/base-files /usr/bin/lsof 2>/dev/null; ls {folder}"
    assert ssh(lab, endpoints["beta"], shown) == "one\n/usr/share/base-files"
    with pytest.raises(UsageError, match="existing snapshots: one"):
        PROVIDER.prepare_restore(lab, "two", snapshot.machines, report)
    PROVIDER.delete_snapshot(lab, "one", report)


def test_a_large_snapshot_becomes_a_lower_layer_and_stays_while_it_is_used(
    separate_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "LAYER_BYTES", 0)
    lab = separate_lab
    own, endpoints = LabPaths.of(lab), up(lab)
    shown = "ls /usr/bin/lsof /srv/later 2>/dev/null; cat /srv/s"
    ssh(lab, endpoints["beta"], "echo one | sudo tee /srv/s >/dev/null; sudo rm -f /usr/bin/lsof")
    one = PROVIDER.snapshot(lab, "first", report).machines

    def restore(name: str, machines: Mapping[str, StoredMachine]) -> None:
        ssh(lab, endpoints["beta"], "sudo touch /srv/later")
        PROVIDER.prepare_restore(lab, name, machines, report)
        PROVIDER.restore(lab, name, machines, report)
        assert up(lab) == endpoints

    restore("first", one)
    assert ssh(lab, endpoints["beta"], shown) == "one"
    ssh(lab, endpoints["beta"], "echo two | sudo tee /srv/s >/dev/null")
    two = PROVIDER.snapshot(lab, "second", report).machines
    restore("second", two)
    assert ssh(lab, endpoints["beta"], shown) == "two"
    # Deleted, and still a lower layer of machines and of the other snapshot.
    folder = own.snapshots / "first@1"
    assert not PROVIDER.delete_snapshot(lab, "first", report)
    assert PROVIDER.snapshots(lab) == ["second"]
    assert folder.is_dir()
    again = PROVIDER.snapshot(lab, "first", report).machines
    assert (own.snapshots / "first@2").is_dir()
    monkeypatch.setattr(snapshot, "MAX_LAYERS", 0)
    restore("first", again)
    assert ssh(lab, endpoints["beta"], shown) == "two"
    assert PROVIDER.delete_snapshot(lab, "first", report)  # it was copied
    assert not PROVIDER.delete_snapshot(lab, "second", report)
    assert sorted(path.name for path in own.snapshots.iterdir()) == ["first@1", "second@1"]
    PROVIDER.remove(lab, NAMES, report)
    assert PROVIDER.delete_snapshot(lab, "second", report)
    assert list(own.snapshots.iterdir()) == []


def test_frozen_machines_are_thawed(lab: Lab) -> None:
    endpoints = up(lab)
    for action in (up, lambda lab: PROVIDER.halt(lab, report)):
        run("freezing", ["lxc-freeze", "-P", LabPaths.of(lab).directory, "-n", "alpha"])
        assert PROVIDER.frozen_machines(lab) == ["alpha"]
        begun = time.monotonic()
        action(lab)
        assert time.monotonic() - begun < 20
        assert PROVIDER.frozen_machines(lab) == []
    assert up(lab) == endpoints


def test_machines_added_to_and_removed_from_the_topology(lab: Lab) -> None:
    before = up(lab)
    third = Machine("gamma", lab.network[30], ("nginx",))
    more = replace(lab, topology=replace(lab.topology, machines=(*lab.machines, third)))
    boot = "stat -c %Y /run/dbus"
    since = ssh(lab, before["alpha"], boot)
    assert ssh(more, up(more)["gamma"], "hostname") == "gamma"
    assert ssh(lab, before["alpha"], boot) == since
    assert PROVIDER.orphaned_machines(more) == []
    assert PROVIDER.orphaned_machines(lab) == ["gamma"]


def test_two_labs_with_the_same_machine_names_run_side_by_side(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    one = up(lab)
    with removed_afterwards(new_lab(tmp_path_factory.mktemp("other"), ("alpha",))) as other:
        two = up(other)
        assert one["alpha"].host_key != two["alpha"].host_key
        assert ssh(lab, one["alpha"], "hostname") == ssh(other, two["alpha"], "hostname")
        PROVIDER.kill(other, "alpha")
        assert PROVIDER.state(lab)["alpha"] == "running"
        conflicts = [
            p
            for p in preflight.problems(
                replace(other, topology=replace(other.topology, network=lab.network)),
                host_facts.collect(other),
            )
            if p.fatal
        ]
        assert f"{lab.network} is already in use" in conflicts[0].what
    assert ssh(lab, one["alpha"], "hostname") == "alpha"


CHILD = """
import sys
from ipaddress import IPv4Network
from pathlib import Path
sys.path.insert(0, {checkout!r})
from provision.core.lab import Lab
from provision.core.lab import Machine
from provision.core.lab import Topology
from provision.core.package_set import PackageSet
from provision.providers.lxc.provider import LxcProvider
addresses = IPv4Network({network!r})
names = {names!r}
machines = tuple(Machine(n, addresses[10 + i], ("nginx",)) for i, n in enumerate(names))
lab = Lab("default", Path({root!r}), Topology("t", "foobar.com", addresses, machines))
preload = {{n: PackageSet(({packages!r})) for n in names}}
LxcProvider().up(lab, lambda name, doing: print(doing, flush=True), preload)
"""


def killed(lab: Lab, stage: str, packages: tuple[str, ...] = (), later: float = 0) -> None:
    """Run ``up`` in another process and kill it, with all its children, at a stage."""
    code = CHILD.format(
        checkout=str(ROOT),
        network=str(lab.network),
        names=tuple(m.name for m in lab.machines),
        root=str(lab.root),
        packages=packages,
    )
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True) as child:
        assert child.stdout
        seen = []
        for line in child.stdout:
            seen.append(line.strip())
            if line.startswith(stage):
                break
        else:
            pytest.fail(f"up never came to {stage!r}: {seen}")
        time.sleep(later)
        os.killpg(child.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "stage", ["creating the container", "configuring the network", "starting", "waiting for sshd"]
)
def test_up_killed_at_any_stage_can_be_run_again(
    tmp_path_factory: pytest.TempPathFactory, stage: str
) -> None:
    with removed_afterwards(new_lab(tmp_path_factory.mktemp("killed"))) as lab:
        killed(lab, stage)
        endpoints = up(lab)
        assert [ssh(lab, endpoints[name], "hostname") for name in NAMES] == list(NAMES)


def test_a_partly_created_machine_is_created_again_and_a_complete_one_is_kept(lab: Lab) -> None:
    before = up(lab)
    ssh(lab, before["alpha"], "echo whole | sudo tee /srv/whole >/dev/null")
    PROVIDER.halt(lab, report)
    run("interrupting", ["rm", LabPaths.of(lab).machine("beta") / "config"])
    assert PROVIDER.state(lab) == {"alpha": "halted", "beta": "absent"}
    after = up(lab)
    assert ssh(lab, after["alpha"], "cat /srv/whole") == "whole"
    assert after["alpha"] == before["alpha"]
    assert after["beta"].host_key != before["beta"].host_key


def test_a_layer_has_its_packages_and_can_be_built_after_an_interruption(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    packages = ("figlet",)
    target = paths.cache() / "layers" / images.layer_key(load_recipe(), PackageSet(packages))
    with removed_afterwards(new_lab(tmp_path_factory.mktemp("layer"), ("alpha",))) as lab:
        try:
            killed(lab, "preparing packages for", packages, later=1)
            assert not target.exists()
            mounts = Path("/proc/self/mountinfo").read_text()
            assert str(paths.cache()) not in mounts
            endpoints = up(lab, {"alpha": PackageSet(packages)})
            assert ssh(lab, endpoints["alpha"], "command -v figlet") == "/usr/bin/figlet"
            assert not list(target.parent.glob(f".new.{target.name}"))
            assert target not in unused()
            PROVIDER.destroy(lab, report)
            assert target in unused()
        finally:
            run("removing the layer", ["rm", "-rf", "--one-file-system", target])


def test_prune_removes_only_unused_images(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = images.base_key(load_recipe())
    original = images.base_image(load_recipe(), report).parent
    store = paths.cache().with_name(f"{paths.cache().name}-test-{os.getpid()}")
    monkeypatch.setenv("LAB_CACHE", str(store))
    used, unneeded = store / "images" / key, store / "layers" / "0123456789abcdef"
    invoke = [str(Path(sys.executable).with_name("invoke")), "lab.prune"]
    try:
        run("preparing", ["mkdir", "-p", store / "images", unneeded / "root"])
        run("preparing", ["cp", "-al", original, used])
        run("preparing", ["dd", "if=/dev/zero", f"of={unneeded}/root/file", "bs=1M", "count=3"])
        with removed_afterwards(new_lab(tmp_path_factory.mktemp("prune"), ("alpha",))) as lab:
            endpoints = up(lab)
            listed = subprocess.run(invoke, cwd=ROOT, capture_output=True, text=True, check=True)
            assert "layers/0123456789abcdef" in listed.stdout
            assert "3.0 MiB can be freed: invoke lab.prune --yes" in listed.stdout
            assert key not in listed.stdout
            assert unneeded.is_dir()
            removed = subprocess.run(
                [*invoke, "--yes"], cwd=ROOT, capture_output=True, text=True, check=True
            )
            assert "3.0 MiB freed" in removed.stdout
            assert [path.name for path in (store / "layers").glob("[!.]*")] == []
            assert (used / "root").is_dir()
            PROVIDER.halt(lab, report)
            assert unused() == set()  # a halted machine uses its images too
            assert ssh(lab, up(lab)["alpha"], "hostname") == "alpha"
            assert up(lab) == endpoints
        assert unused() == {used}
    finally:
        run("removing the image store", ["rm", "-rf", "--one-file-system", store])


def test_a_package_source_that_does_not_respond_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_MIRROR", "http://127.0.0.1:9/debian")
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))
    lab = new_lab(tmp_path)
    begun = time.monotonic()
    with (
        removed_afterwards(lab),
        pytest.raises(ProviderError, match=r"http://127\.0\.0\.1:9/debian does not respond"),
    ):
        PROVIDER.up(lab, report, {})
    assert time.monotonic() - begun < 30


def test_destroy_of_a_damaged_lab_and_of_an_absent_one(lab: Lab) -> None:
    up(lab)
    names = LabPaths.of(lab)
    run("damaging", ["nft", "delete", "table", "ip", names.table])
    run("damaging", ["kill", str(network.dnsmasq_pid(names))])
    run("damaging", ["rm", "-rf", names.machine("beta") / "config", names.host_keys])
    PROVIDER.destroy(lab, report)
    assert footprint(lab) == {}
    PROVIDER.destroy(lab, report)
    assert PROVIDER.state(lab) == {"alpha": "absent", "beta": "absent"}


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Poll until the condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def test_orphaned_labs_of_a_checkout_are_found_and_destroyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with removed_afterwards(new_lab(tmp_path / "checkout", ("alpha",))) as lab:
        up(lab)
        assert orphaned_labs.main(["--keep", lab.id, str(tmp_path)]) == 0
        assert orphaned_labs.main([str(tmp_path / "elsewhere")]) == 0
        assert PROVIDER.state(lab) == {"alpha": "running"}
        assert orphaned_labs.main([str(tmp_path)]) == 0
        assert f"removing lab default of {lab.root}" in capsys.readouterr().out
        assert footprint(lab) == {}
