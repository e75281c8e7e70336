"""How an existing machine is reached: the sources of each setting, and their precedence."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import paramiko
import pytest

from provision import topology
from provision.core.endpoint import Endpoint
from provision.core.errors import LabError, ProviderError, TopologyError, UsageError
from provision.core.lab import Lab
from provision.providers.routes import is_directly_connected, source_address
from provision.providers.ssh import endpoints, record
from provision.providers.ssh.endpoints import OpenSshFiles
from provision.providers.ssh.record import ExistingMachines

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDgsSx7fdvUJ7s0tc8FiUZlOxEw7Cyy4uZCSOuFPNHQC"
CONFIG = """
Host db
  HostName 203.0.113.9
  Port 2200
  User debian
  IdentityFile {home}/work
  ProxyJump gate

Host gate
  HostName gate.example.org
  User jumper
  Port 2222
  IdentityFile {home}/gate

Host twice
  ProxyJump one,two

Host program
  ProxyCommand nc %h %p
"""


@pytest.fixture
def here(tmp_path: Path) -> OpenSshFiles:
    """A user with three keys, an OpenSSH configuration, and two known hosts."""
    for name in ("id_ed25519", "work", "gate"):
        (tmp_path / name).touch()
    known = tmp_path / "known_hosts"
    known.write_text(f"203.0.113.9 {KEY}\n[gate.example.org]:2222 {KEY}\n")
    keys = paramiko.HostKeys()
    keys.load(str(known))
    config = paramiko.SSHConfig.from_text(CONFIG.format(home=tmp_path))
    return OpenSshFiles(tmp_path, config, keys, "me")


def resolve(lab: Lab, here: OpenSshFiles, **settings: str) -> Endpoint:
    return endpoints.resolve_endpoint(lab.machines[0], settings, here)


def test_defaults_are_the_topologys_address_and_openssh_s_defaults(
    lab: Lab, here: OpenSshFiles
) -> None:
    endpoint = resolve(lab, here)
    assert (endpoint.address, endpoint.port, endpoint.user) == ("192.168.56.10", 22, "me")
    assert endpoint.key == here.home / "id_ed25519"
    assert (endpoint.host_key, endpoint.jump, endpoint.agent) == ("", "", True)


def test_an_openssh_alias_has_the_settings_of_its_configuration(
    lab: Lab, here: OpenSshFiles
) -> None:
    endpoint = resolve(lab, here, address="db")
    assert (endpoint.address, endpoint.port, endpoint.user) == ("203.0.113.9", 2200, "debian")
    assert endpoint.key == here.home / "work"
    assert endpoint.jump == "jumper@gate.example.org:2222"
    assert endpoint.jump_key == here.home / "gate"
    assert endpoint.jump_host_key == KEY
    assert endpoint.host_key == ""  # known at port 22, and this is 2200: another sshd


def test_settings_of_the_machine_override_the_configuration(lab: Lab, here: OpenSshFiles) -> None:
    settings = {"address": "db", "port": "22", "user": "root", "key": str(here.home / "id_ed25519")}
    endpoint = resolve(lab, here, **settings, jump="a@b:23")
    assert (endpoint.port, endpoint.user, endpoint.jump) == (22, "root", "a@b:23")
    assert endpoint.key.name == "id_ed25519"
    assert endpoint.host_key == KEY
    other = resolve(lab, here, address="db", host_key="ssh-ed25519 BBBB")
    assert other.host_key == "ssh-ed25519 BBBB"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"address": "twice"}, "more than one jump host"),
        ({"address": "program"}, "ProxyCommand is not supported"),
        ({"key": "/nowhere/none"}, "private key /nowhere/none does not exist"),
    ],
)
def test_unsupported_settings_are_reported(
    lab: Lab, here: OpenSshFiles, settings: dict[str, str], words: str
) -> None:
    with pytest.raises(ProviderError, match=words):
        resolve(lab, here, **settings)


def test_the_inventory_overrides_the_topology_and_has_only_its_machines(
    lab: Lab, here: OpenSshFiles
) -> None:
    first = replace(lab.machines[0], ssh=(("address", "203.0.113.1"), ("user", "a")))
    known = replace(lab, topology=replace(lab.topology, machines=(first, *lab.machines[1:])))
    inventory = {"lb-01": {"user": "b"}, "web-07": {"user": "c"}}
    resolved, problems = endpoints.resolve_endpoints(known, inventory, here)
    assert (resolved["lb-01"].address, resolved["lb-01"].user) == ("203.0.113.1", "b")
    assert [p.what.split(",")[0] for p in problems] == ["the inventory contains web-07"]


def test_included_files_are_read_as_openssh_does(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Include more/*.conf\nHost b\n  Port 3\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "1.conf").write_text("Host a\n  Port 2\n")
    read = paramiko.SSHConfig.from_text(endpoints.read_config(tmp_path / "config", tmp_path))
    assert (read.lookup("a")["port"], read.lookup("b")["port"]) == ("2", "3")
    (tmp_path / "loop").write_text(f"Include {tmp_path}/loop\nHost c\n  Port 4\n")
    assert "Port 4" in endpoints.read_config(tmp_path / "loop", tmp_path)


def test_lab_ssh_config_replaces_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").write_text("Host web-01\n  User special\n")
    files = endpoints.read_openssh_files({"LAB_SSH_CONFIG": str(tmp_path / "mine")})
    assert files.lookup("web-01")["user"] == "special"
    assert "user" not in endpoints.read_openssh_files({}).lookup("web-01")


def test_an_inventory_is_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yml"
    path.write_text("machines:\n  lb-01: {address: 203.0.113.7, port: 2222, user: debian}\n")
    assert topology.inventory(path) == {
        "lb-01": {"address": "203.0.113.7", "port": "2222", "user": "debian"}
    }
    path.write_text("machines:\n  lb-01: {adress: 1.2.3.4, port: many}\n")
    with pytest.raises(TopologyError) as error:
        topology.inventory(path)
    assert "did you mean address?" in str(error.value)
    assert "machines.lb-01.port: invalid value 'many'" in str(error.value)
    with pytest.raises(UsageError, match="cannot be read"):
        topology.inventory(tmp_path / "none")


# --- between commands ----------------------------------------------------------------------------


def test_a_record_is_read_as_it_was_written(lab: Lab, tmp_path: Path) -> None:
    here = replace(lab, root=tmp_path)
    assert record.load(here) == ExistingMachines()
    endpoint = Endpoint("a", 22, "u", Path("/k"), KEY, "j@h:1", True, Path("/j"), KEY)
    kept = ExistingMachines({"lb-01": endpoint}, ("192.168.56.10",))
    record.save(here, kept)
    assert record.load(here) == kept
    (here.directory / record.FILE).write_text('{"machines": []}')
    with pytest.raises(LabError, match="is damaged"):
        record.load(here)


def test_an_address_that_is_no_longer_directly_connected_is_a_problem() -> None:
    kept = ExistingMachines(direct=("192.168.56.10",))
    assert record.lost_routes(kept, lambda _: IPv4Address("192.168.56.1")) == ()
    lost = record.lost_routes(kept, lambda _: IPv4Address("192.0.2.2"))
    assert lost == (
        "192.168.56.10 was directly connected to this host, and is now reached from 192.0.2.2",
    )
    assert "no route" in record.lost_routes(kept, lambda _: None)[0]
    assert record.lost_routes(ExistingMachines(), lambda _: None) == ()


def test_routes_are_looked_up_in_the_kernel() -> None:
    assert source_address("127.0.0.1") == IPv4Address("127.0.0.1")
    assert source_address("no such name") is None
    assert is_directly_connected("10.1.2.3", IPv4Address("10.1.2.200"))
    assert not is_directly_connected("10.1.2.3", IPv4Address("10.1.3.200"))
    assert not is_directly_connected("a.name", IPv4Address("10.1.3.200"))
    assert not is_directly_connected("10.1.2.3", None)
