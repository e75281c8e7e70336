"""The lxc provider on this host: the life cycle of containers, and their complete removal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from provision.core.errors import UsageError
from provision.core.lab import Lab, Machine
from provision.providers.image_recipe import mirror
from provision.providers.lxc import host_facts, network, preflight
from provision.providers.lxc.paths import LabPaths
from provision.providers.lxc.privileged import run
from tests.live.containers import (
    PROVIDER,
    footprint,
    new_lab,
    removed_afterwards,
    report,
    ssh,
    up,
    wait_for,
)

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two machines that the tests of this file share."""
    with removed_afterwards(new_lab(tmp_path_factory.mktemp("checkout"))) as made:
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
