"""Opening and recording a lab, choosing its network, and its ssh_config."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import paramiko
import pytest

from provision.core import state
from provision.core.endpoint import Endpoint
from provision.core.errors import LabError, TopologyError, UsageError
from provision.core.lab import ROOT, Balance, Lab
from provision.core.locks import lab_lock
from provision.core.secrets import Secrets
from provision.core.ssh_config import known_hosts, ssh_config, write_ssh_config
from provision.core.state import State, lab_names
from provision.topology import labs, networks
from provision.topology.record import (
    current_balance,
    progress,
    record_lab,
    record_reached,
    record_target,
    unfinished,
)

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDgsSx7fdvUJ7s0tc8FiUZlOxEw7Cyy4uZCSOuFPNHQC"
ONE = """
domain: foobar.com
network: 192.168.56.0/26
primary: web-01
machines:
  web-01: {address: 192.168.56.11, roles: [nginx, app, mysql]}
"""


@pytest.fixture(autouse=True)
def _quiet_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A host without routes and without other labs, whatever runs on this one."""
    monkeypatch.delenv("LAB_TOPOLOGY", raising=False)
    monkeypatch.setattr(networks, "HOST", tmp_path / "host")
    monkeypatch.setattr(networks, "ROUTES", tmp_path / "route")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with the topologies ``distributed`` and ``one``; its path has a space."""
    root = tmp_path / "my checkout"
    folder = root / "configs" / "topologies"
    folder.mkdir(parents=True)
    text = (ROOT / "configs" / "topologies" / "distributed.yml").read_text()
    (folder / "distributed.yml").write_text(text)
    (folder / "one.yml").write_text(ONE)
    return root


def up(root: Path, name: str = "default", provider: str = "lxc", **options: Any) -> Lab:
    """Open and record a lab, as lab.up does."""
    lab, _ = labs.open_lab(name, root=root, **options)
    with lab_lock(lab.directory):
        record_lab(lab, provider)
    return lab


# --- topology and name ---------------------------------------------------------------------------


def test_default_lab_of_a_fresh_checkout(root: Path) -> None:
    lab, recorded = labs.open_lab(root=root)
    assert (lab.name, lab.root, lab.topology.name, recorded) == (
        "default",
        root,
        "distributed",
        None,
    )
    assert lab.network == IPv4Network("192.168.56.0/24")
    assert not (root / ".lab").exists()


def test_option_before_recorded_before_environment(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_TOPOLOGY", "one")
    assert labs.open_lab(root=root)[0].topology.name == "one"
    assert labs.open_lab(topology="distributed", root=root)[0].topology.name == "distributed"
    up(root, topology="distributed")
    assert labs.open_lab(root=root)[0].topology.name == "distributed"
    assert labs.open_lab(topology="one", root=root)[0].topology.name == "one"


def test_topology_file_in_another_folder_is_recorded(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yml").write_text(ONE)
    monkeypatch.chdir(tmp_path)
    up(root, topology="./mine.yml")
    monkeypatch.chdir("/")
    lab, recorded = labs.open_lab(root=root)
    assert lab.topology.path == tmp_path / "mine.yml"
    assert recorded is not None
    assert recorded.topology == str(tmp_path / "mine.yml")


def test_unknown_topology(root: Path) -> None:
    with pytest.raises(TopologyError, match="did you mean distributed") as caught:
        labs.open_lab(topology="distribute", root=root)
    assert "choose from distributed, one" in caught.value.hint


@pytest.mark.parametrize(
    "name", ["", "Two", "-two", "a" * 16, "../x", "two labs", "zwei.eins", "ü", "two\n"]
)
def test_invalid_lab_name(root: Path, name: str) -> None:
    with pytest.raises(UsageError, match="invalid lab name"):
        labs.open_lab(name, root=root)


@pytest.mark.parametrize("name", ["a", "2", "a" * 15, "lab-2"])
def test_valid_lab_name(root: Path, name: str) -> None:
    assert labs.open_lab(name, root=root)[0].name == name


def test_damaged_state_is_an_error(root: Path) -> None:
    lab = up(root)
    (lab.directory / state.FILE).write_text("{")
    with pytest.raises(LabError, match="is damaged"):
        labs.open_lab(root=root)


def test_lab_names(root: Path) -> None:
    assert lab_names(root) == ()
    for name in ("two", "default"):
        up(root, name)
    (root / ".lab" / "half").mkdir()
    assert lab_names(root) == ("default", "two")


# --- network -------------------------------------------------------------------------------------


def test_other_labs_get_other_networks_and_keep_them(root: Path) -> None:
    first, second = up(root, "one"), up(root, "two")
    assert str(first.network) == "192.168.57.0/24"  # .56 is reserved for the default lab
    assert str(second.network) == "192.168.58.0/24"
    assert [str(m.address) for m in second.machines] == [
        "192.168.58.10",
        "192.168.58.11",
        "192.168.58.12",
    ]
    state.delete(first.directory)
    assert labs.open_lab("two", root=root)[0].network == second.network
    assert labs.open_lab("three", root=root)[0].network == first.network


def test_smaller_topology_gets_a_smaller_network(root: Path) -> None:
    lab, _ = labs.open_lab("two", topology="one", root=root)
    assert str(lab.network) == "192.168.57.0/26"
    assert str(lab.machines[0].address) == "192.168.57.11"


def test_option_sets_the_network_of_a_new_lab(root: Path) -> None:
    lab = up(root, network="10.9.8.0/24")
    assert str(lab.machine("web-02").address) == "10.9.8.12"
    assert labs.open_lab(root=root)[0].network == lab.network
    assert labs.open_lab(root=root, network="10.9.8.0/24")[0].network == lab.network


def test_option_does_not_move_an_existing_lab(root: Path) -> None:
    up(root)
    with pytest.raises(UsageError, match=r"cannot move to 192\.168\.60\.0/24") as caught:
        labs.open_lab(network="192.168.60.0/24", root=root)
    assert "invoke lab.destroy, then" in caught.value.hint


@pytest.mark.parametrize(
    ("network", "why"),
    [
        ("nonsense", "expected ADDRESS/PREFIX"),
        ("192.168.60.7/24", "did you mean 192.168.60.0/24"),
        ("8.8.8.0/24", "is not private"),
        ("10.0.0.0/8", "invalid prefix length"),
        ("192.168.60.0/26", "is too small for the topology distributed"),
    ],
)
def test_invalid_network(root: Path, network: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        labs.open_lab(network=network, root=root)


def test_option_with_the_network_of_another_lab(root: Path) -> None:
    up(root, "two")
    with pytest.raises(UsageError, match="which lab two uses"):
        labs.open_lab("three", network="192.168.57.0/24", root=root)


def test_free_network_is_the_first_without_overlap() -> None:
    used = [IPv4Network(n) for n in ("192.168.56.128/25", "192.168.57.7/32", "10.0.0.0/8")]
    assert str(networks.free_network([])) == "192.168.56.0/24"
    assert str(networks.free_network(used)) == "192.168.58.0/24"
    assert str(networks.free_network([*used, IPv4Network("192.168.58.0/23")])) == "192.168.60.0/24"
    with pytest.raises(LabError, match=r"no part of 192\.168\.56\.0/21 is free"):
        networks.free_network([IPv4Network("192.168.0.0/16")])


def route(*networks: str) -> str:
    """``/proc/net/route`` with these networks, as the kernel of this processor prints it."""

    def word(address: IPv4Address) -> str:
        return f"{struct.unpack('=I', address.packed)[0]:08X}"

    lines = ["Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"]
    for net in map(IPv4Network, networks):
        mask = word(net.netmask)
        lines.append(f"eth0\t{word(net.network_address)}\t00000000\t0001\t0\t0\t0\t{mask}\t0\t0\t0")
    return "\n".join(lines) + "\n"


def test_routes_of_a_little_endian_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "byteorder", "little")
    text = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "lxcbr0\t0038A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        "tun0\t00000080\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n"
        "tun0\t0500A00A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n"
        "broken line\n"
        "eth1\tZZ\t0\t0\t0\t0\t0\tZZ\t0\t0\t0\n"
    )
    assert [str(n) for n in networks.parse_routes(text)] == ["192.168.56.0/24", "10.160.0.5/32"]
    assert networks.parse_routes("") == ()


def test_routes_and_labs_of_other_checkouts_are_avoided(root: Path, tmp_path: Path) -> None:
    (tmp_path / "route").write_text(route("0.0.0.0/0", "192.168.57.0/24", "128.0.0.0/1"))
    for name, text in (("aa", "192.168.58.0/24\n"), ("bb", "half wri"), ("cc", "")):
        (tmp_path / "host" / name).mkdir(parents=True)
        (tmp_path / "host" / name / "network").write_text(text)
    assert str(labs.open_lab("two", root=root)[0].network) == "192.168.59.0/24"
    assert str(labs.open_lab(root=root)[0].network) == "192.168.56.0/24"


def test_lab_without_state_keeps_the_network_of_its_machines(root: Path, tmp_path: Path) -> None:
    lab = up(root, "two", network="192.168.60.0/24")
    (tmp_path / "host" / lab.id).mkdir(parents=True)
    (tmp_path / "host" / lab.id / "network").write_text("192.168.60.0/24\n")
    (tmp_path / "route").write_text(route("192.168.60.0/24"))
    (lab.directory / state.FILE).unlink()
    assert labs.open_lab("two", root=root)[0].network == lab.network


def test_routes_of_this_host() -> None:
    path = Path("/proc/net/route")
    if not path.exists():
        pytest.skip("no /proc/net/route here")
    lines = [line.split() for line in path.read_text().splitlines()[1:]]
    wide = [line for line in lines if int(line[7], 16).bit_count() < 8]
    assert len(networks.parse_routes(path.read_text())) == len(lines) - len(wide)


# --- recorded state ------------------------------------------------------------------------------


def test_new_lab_is_recorded(root: Path) -> None:
    up(root)
    assert labs.open_lab(root=root)[1] == State(
        topology="distributed",
        target="distributed",
        provider="lxc",
        network="192.168.56.0/24",
        primary="web-01",
    )


def test_values_set_at_run_time_are_kept(root: Path) -> None:
    lab = up(root)
    decided = state.change(
        lab.directory,
        primary="web-02",
        epoch=2,
        mode="active-passive",
        weights={"web-01": 5},
        admin={"web-02": "drain", "web-09": "maint"},
        autopromote=True,
    )
    up(root)
    recorded = labs.open_lab(root=root)[1]
    assert recorded == replace(decided, admin={"web-02": "drain"})  # there is no web-09


def test_new_topology_sets_automatic_failover(root: Path) -> None:
    folder = root / "configs" / "topologies"
    text = (folder / "distributed.yml").read_text()
    (folder / "alone.yml").write_text(text.replace("primary:", "autopromote: true\nprimary:"))
    directory = up(root).directory

    def recorded(topology: str | None = None) -> bool:
        up(root, topology=topology)
        current = state.load(directory)
        assert current is not None
        return current.autopromote

    assert not recorded()
    assert recorded("alone")
    state.change(directory, autopromote=False)
    assert not recorded("alone"), "the value set at run time is kept"
    state.change(directory, autopromote=True)
    assert not recorded("distributed")


def test_second_up_writes_nothing(root: Path) -> None:
    lab = up(root)
    before = (lab.directory / state.FILE).stat()
    up(root)
    after = (lab.directory / state.FILE).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


# --- a change of topology is recorded when it is complete -----------------------------------------


@pytest.fixture
def three(root: Path) -> Path:
    """A checkout with `distributed`, `one` and `scaled`."""
    text = (ROOT / "configs" / "topologies" / "scaled.yml").read_text()
    (root / "configs" / "topologies" / "scaled.yml").write_text(text)
    return root


def recorded_state(root: Path) -> State:
    recorded = state.load(root / ".lab" / "default")
    assert recorded is not None
    return recorded


def opened(root: Path, **options: Any) -> str:
    return labs.open_lab(root=root, **options)[0].topology.name


def test_a_new_lab_is_on_the_way_until_its_checks_pass(root: Path) -> None:
    lab = up(root)
    recorded = recorded_state(root)
    assert (recorded.topology, recorded.target) == ("distributed", "distributed")
    assert progress(recorded.topology, recorded.target) == "on the way to distributed"
    assert "goes back" not in unfinished(recorded)
    assert record_reached(lab).target == ""
    assert unfinished(recorded_state(root)) == ""
    up(root)
    assert recorded_state(root).target == "", "a second lab.up leaves what it has reached"
    # Another topology for a lab that has reached none.
    lab = up(root, "two", network="10.9.8.0/24")
    up(root, "two", topology="one")
    other = state.load(lab.directory)
    assert other is not None
    assert (other.topology, other.target) == ("one", "one")


def test_an_interrupted_change_goes_on_or_back(root: Path) -> None:
    record_reached(up(root))
    lab = up(root, topology="one")
    recorded = recorded_state(root)
    assert (recorded.topology, recorded.target, recorded.working) == ("distributed", "one", "one")
    assert progress(recorded.topology, recorded.target) == "distributed, on the way to one"
    text = unfinished(recorded)
    assert "invoke lab.up continues" in text
    assert "invoke lab.up --topology distributed goes back" in text
    assert (opened(root), opened(root, continued=True)) == ("one", "one")
    up(root, continued=True)
    assert recorded_state(root) == recorded, "going on changes no record before it is complete"
    assert record_reached(lab).topology == "one"


def test_the_target_is_recorded_before_a_machine_changes(three: Path) -> None:
    record_reached(up(three))
    scaled, _ = labs.open_lab(topology="scaled", root=three)
    record_target(scaled)
    # The data is still on web-01, which has no database in `scaled`.
    assert (opened(three), opened(three, continued=True)) == ("distributed", "scaled")
    state.change(scaled.directory, primary="db-01")
    # The data was moved, and lab.up was killed before it recorded so.
    assert (opened(three), opened(three, continued=True)) == ("scaled", "scaled")
    record_lab(scaled, "lxc")
    # Back: until the data is moved, the machines are still those of `scaled`.
    distributed, _ = labs.open_lab(topology="distributed", root=three)
    record_target(distributed)
    recorded = recorded_state(three)
    assert (recorded.topology, recorded.target, recorded.working) == (
        "distributed",
        "distributed",
        "scaled",
    )
    assert (opened(three), opened(three, continued=True)) == ("scaled", "distributed")
    state.change(scaled.directory, primary="web-01")
    assert opened(three) == "distributed"
    record_lab(distributed, "lxc")
    assert recorded_state(three).working == ""
    assert record_reached(distributed).topology == "distributed"


def test_no_target_without_a_change(root: Path) -> None:
    lab = up(root)
    record_reached(lab)
    before = (lab.directory / state.FILE).stat()
    record_target(lab)
    assert (lab.directory / state.FILE).stat().st_ino == before.st_ino


def test_topology_without_the_primary_is_refused(root: Path) -> None:
    lab = up(root)
    state.change(lab.directory, primary="web-02")
    recorded = state.load(lab.directory)
    with pytest.raises(LabError, match="is web-02, which is not a database machine") as e:
        up(root, topology="one")
    assert "invoke db.promote" in e.value.hint
    assert state.load(lab.directory) == recorded
    state.change(lab.directory, primary="web-01")
    assert up(root, topology="one").topology.name == "one"


def test_other_provider_is_refused(root: Path) -> None:
    up(root, "two")
    with pytest.raises(LabError, match="has machines of provider lxc, not vagrant") as caught:
        up(root, "two", provider="vagrant")
    assert "invoke lab.up --provider lxc" in caught.value.hint


def test_two_labs_chose_one_network(root: Path) -> None:
    late, _ = labs.open_lab("late", root=root)
    quick = up(root, "quick")
    assert late.network == quick.network
    with pytest.raises(LabError, match="lab quick uses") as caught:
        record_lab(late, "lxc")
    assert caught.value.hint.startswith("invoke lab.up (")
    assert state.load(late.directory) is None
    assert str(up(root, "late").network) == "192.168.58.0/24"


def test_network_of_the_default_lab_is_used(root: Path) -> None:
    up(root, "two", network="192.168.56.128/26", topology="one")
    with pytest.raises(LabError, match="lab two uses") as caught:
        up(root)
    assert caught.value.hint == "invoke lab.up --network 192.168.57.0/24"
    up(root, network="192.168.57.0/24")


def test_balance_set_at_run_time_replaces_the_topologys(root: Path) -> None:
    lab, _ = labs.open_lab(root=root)
    assert current_balance(lab, None) == current_balance(lab, State()) == Balance()
    decided = State(algorithm="leastconn", mode="active-passive")
    assert current_balance(lab, decided) == Balance("leastconn", "active-passive")


# --- ssh_config ----------------------------------------------------------------------------------


def endpoints(lab: Lab, **changes: Any) -> dict[str, Endpoint]:
    key = Secrets(lab.directory).ssh_key()
    by_name = {}
    for machine in reversed(lab.machines):
        end = Endpoint(str(machine.address), 22, "lab", key, f"{HOST_KEY} root@{machine.name}")
        by_name[machine.name] = replace(end, **changes)
    return by_name


def effective_options(config: Path, machine: str) -> dict[str, str]:
    """The options that OpenSSH reads from the file."""
    result = subprocess.run(
        ["ssh", "-T", "-G", "-F", config, machine], capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    return dict(line.partition(" ")[::2] for line in result.stdout.splitlines())


def test_ssh_reads_every_host(root: Path) -> None:
    lab, _ = labs.open_lab(root=root)
    config = write_ssh_config(lab, endpoints(lab, port=2222))
    assert config == root / ".lab" / "default" / "ssh_config"
    for machine in lab.machines:
        options = effective_options(config, machine.name)
        assert options["hostname"] == str(machine.address)
        assert options["port"] == "2222"
        assert options["user"] == "lab"
        assert options["hostkeyalias"] == machine.name
        assert options["identityfile"] == str(lab.directory / "secrets" / "id_ed25519")
        assert options["identitiesonly"] == "yes"
        assert options["userknownhostsfile"].strip('"') == str(lab.directory / "known_hosts")
        assert options["globalknownhostsfile"] == "/dev/null"
        assert options["stricthostkeychecking"] in ("true", "yes")
        assert options["loglevel"] == "ERROR"
        assert "proxyjump" not in options
    assert effective_options(config, "elsewhere")["stricthostkeychecking"] == "ask"


def test_default_lab_is_included(root: Path) -> None:
    lab, _ = labs.open_lab(root=root)
    write_ssh_config(lab, endpoints(lab))
    assert effective_options(root / ".lab" / "ssh_config", "web-01")["hostname"] == "192.168.56.11"
    other, _ = labs.open_lab("two", root=root)
    write_ssh_config(other, endpoints(other))
    assert effective_options(root / ".lab" / "ssh_config", "web-01")["hostname"] == "192.168.56.11"
    assert (
        effective_options(other.directory / "ssh_config", "web-01")["hostname"] == "192.168.57.11"
    )


def test_jump_host(root: Path) -> None:
    lab, _ = labs.open_lab(root=root)
    config = write_ssh_config(lab, endpoints(lab, jump="ops@bastion.example.org:2222"))
    assert effective_options(config, "web-01")["proxyjump"] == "ops@bastion.example.org:2222"


def test_path_with_a_percent_sign_and_quotes(root: Path) -> None:
    odd = root.with_name('50%d of "it"')
    root.rename(odd)
    lab, _ = labs.open_lab(root=odd)
    config = write_ssh_config(lab, endpoints(lab))
    result = subprocess.run(
        ["ssh", "-T", "-vv", "-F", config, "-o", "ProxyCommand=false", "web-01"],
        capture_output=True,
        text=True,
        check=False,
    )
    key = odd / ".lab" / "default" / "secrets" / "id_ed25519"
    assert f"identity file {key} type 3" in result.stderr  # an ed25519 key that it has read
    assert effective_options(odd / ".lab" / "ssh_config", "web-01")["hostname"] == "192.168.56.11"


class _Greeter(paramiko.ServerInterface):
    """An SSH server that accepts every key and prints a greeting."""

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.common.AUTH_SUCCESSFUL

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        def greet() -> None:
            channel.sendall(b"hello")
            channel.send_exit_status(0)
            channel.close()

        threading.Timer(0.05, greet).start()  # after the reply to the request
        return True


@contextlib.contextmanager
def machine_with(key: Path) -> Iterator[int]:
    """An SSH server on a local port with a host key; serves one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            transport = paramiko.Transport(connection)
            transport.add_server_key(paramiko.Ed25519Key(filename=str(key)))
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                transport.start_server(server=_Greeter())
            transport.join(20)
            transport.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.parametrize("pinned", ["same", "different"])
def test_ssh_accepts_only_the_pinned_key(root: Path, pinned: str) -> None:
    lab, _ = labs.open_lab(root=root)
    host, other = Secrets(root / "host"), Secrets(root / "other")
    pin = (host if pinned == "same" else other).public_key()
    with machine_with(host.ssh_key()) as port:
        ends = endpoints(lab, address="127.0.0.1", port=port, host_key=pin)
        write_ssh_config(lab, ends)
        config = root / ".lab" / "ssh_config"
        result = subprocess.run(
            ["ssh", "-T", "-F", config, "web-01", "true"],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    if pinned == "same":
        assert (result.returncode, result.stdout, result.stderr) == (0, "hello", "")
    else:
        assert result.returncode == 255
        assert result.stdout == ""
        assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in result.stderr
        assert "web-01" in result.stderr


def test_known_hosts(root: Path) -> None:
    lab, _ = labs.open_lab(root=root)
    write_ssh_config(lab, endpoints(lab))
    known_hosts_file = lab.directory / "known_hosts"
    result = subprocess.run(
        ["ssh-keygen", "-F", "web-02", "-f", known_hosts_file],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == f"web-02 {HOST_KEY}"
    assert known_hosts_file.read_text().splitlines() == [
        f"{name} {HOST_KEY}" for name in ("lb-01", "web-01", "web-02")
    ]


def test_machine_without_an_endpoint_is_omitted(root: Path) -> None:
    lab, _ = labs.open_lab(root=root)
    only = {"web-01": endpoints(lab)["web-01"]}
    assert known_hosts(lab, only) == f"web-01 {HOST_KEY}\n"
    assert "lb-01" not in ssh_config(lab, only)
