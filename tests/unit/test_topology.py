"""Topology files: what is accepted, and the exact message of every error.

``tests/golden/topology/NAME.yml`` is a file with errors, ``NAME.txt`` has the messages.
After a change of messages: ``REGENERATE=1 pytest tests/unit/test_topology.py``; read ``git diff``.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml

from provision import topology
from provision.core.errors import TopologyError
from provision.core.lab import ROOT, Balance, Machine, Topology, rebase

CASES = sorted((ROOT / "tests" / "golden" / "topology").glob("*.yml"))
DISTRIBUTED = ROOT / "configs" / "topologies" / "distributed.yml"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDgsSx7fdvUJ7s0tc8FiUZlOxEw7Cyy4uZCSOuFPNHQC"


def error_of(path: Path) -> str:
    with pytest.raises(TopologyError) as caught:
        topology.load(path)
    return str(caught.value)


def write(folder: Path, data: Any, name: str = "mine.yml") -> Path:
    path = folder / name
    text = data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False)
    path.write_text(text, encoding="utf-8")
    return path


def document() -> dict[str, Any]:
    """A valid file."""
    data = yaml.safe_load(DISTRIBUTED.read_text())
    assert isinstance(data, dict)
    return data


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_message(case: Path) -> None:
    message = error_of(case) + "\n"
    expected = case.with_suffix(".txt")
    if os.environ.get("REGENERATE"):
        expected.write_text(message)
    assert message == expected.read_text()


def test_every_case_has_a_message_and_every_message_a_case() -> None:
    folder = ROOT / "tests" / "golden" / "topology"
    assert len(CASES) > 40
    assert {p.stem for p in folder.glob("*.txt")} == {p.stem for p in CASES}


def test_the_default_topology() -> None:
    loaded = topology.load(DISTRIBUTED)
    everything = ("nginx", "app", "mysql")
    assert loaded == Topology(
        "distributed",
        "foobar.com",
        IPv4Network("192.168.56.0/24"),
        (
            Machine("lb-01", IPv4Address("192.168.56.10"), ("haproxy", "dns"), 512, 1),
            Machine("web-01", IPv4Address("192.168.56.11"), everything, 1024, 1),
            Machine("web-02", IPv4Address("192.168.56.12"), everything, 1024, 1),
        ),
        "web-01",
        Balance("roundrobin", "active-active"),
    )
    assert loaded.path == DISTRIBUTED


@pytest.mark.parametrize("name", topology.names())
def test_every_topology_of_the_checkout_loads(name: str) -> None:
    assert topology.load(topology.find(name)).name == name


def test_fourth_machine_is_one_stanza(tmp_path: Path) -> None:
    stanza = "  web-03:\n    address: 192.168.56.13\n    roles: [nginx, app, mysql]\n"
    loaded = topology.load(write(tmp_path, DISTRIBUTED.read_text() + stanza))
    assert loaded.machines[-1] == Machine(
        "web-03", IPv4Address("192.168.56.13"), ("nginx", "app", "mysql")
    )
    assert loaded.machines[:-1] == topology.load(DISTRIBUTED).machines


def test_one_server_without_a_balancer(tmp_path: Path) -> None:
    data = document()
    data["machines"] = {"web-01": data["machines"]["web-01"]}
    del data["balance"]
    loaded = topology.load(write(tmp_path, data))
    assert [m.name for m in loaded.machines] == ["web-01"]
    assert loaded.balance == Balance()


def test_every_layer_on_its_own_machine(tmp_path: Path) -> None:
    data = document()
    data["primary"] = "db-01"
    data["machines"] = {
        name: {"address": f"192.168.56.{number}", "roles": [role]}
        for number, (name, role) in enumerate(
            [("lb-01", "haproxy"), ("web-01", "nginx"), ("app-01", "app"), ("db-01", "mysql")], 10
        )
    }
    assert topology.load(write(tmp_path, data)).primary == "db-01"


def test_ssh_of_an_existing_machine(tmp_path: Path) -> None:
    data = document()
    ssh = {
        "jump": "ops@bastion.example.org:2222",
        "address": "203.0.113.7",
        "port": 2201,
        "user": "debian",
        "key": "~/.ssh/id with space",
        "host_key": f"{HOST_KEY} root@web-01",
    }
    data["machines"]["web-01"]["ssh"] = ssh
    machine = topology.load(write(tmp_path, data)).machines[1]
    assert dict(machine.ssh) == {**ssh, "port": "2201"}
    assert [key for key, _ in machine.ssh] == list(topology.SSH_KEYS)


@pytest.mark.parametrize("network", ["10.1.2.0/24", "172.31.255.0/25", "192.168.56.32/28"])
def test_valid_networks(tmp_path: Path, network: str) -> None:
    data = document()
    home = IPv4Network(network)
    data["network"] = network
    for number, machine in enumerate(data["machines"].values(), 2):
        machine["address"] = str(home[number])
    loaded = topology.load(write(tmp_path, data))
    assert loaded.network == home
    there = rebase(loaded, IPv4Network("192.168.60.0/24"))
    assert str(there.machines[0].address) == "192.168.60.2"


# --- all errors at once --------------------------------------------------------------------------

Damage = Callable[[dict[str, Any]], None]


def _put(*path: str, value: Any) -> Damage:
    def damage(data: dict[str, Any]) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return damage


def _add_role(machine: str, role: str) -> Damage:
    return lambda data: data["machines"][machine]["roles"].append(role)


MISTAKES: list[tuple[str, Damage]] = [
    ("domain: invalid value 'foobar'", _put("domain", value="foobar")),
    (
        "balance.algorithm: unknown algorithm 'fastest'",
        _put("balance", "algorithm", value="fastest"),
    ),
    ("balance.mode: unknown mode 'active'", _put("balance", "mode", value="active")),
    ("balance.wieght: unknown key", _put("balance", "wieght", value=3)),
    ("colour: unknown key", _put("colour", value="blue")),
    ("primary: unknown machine 'web-07'", _put("primary", value="web-07")),
    (
        "lb-01.memory: invalid value 1; expected an integer from",
        _put("machines", "lb-01", "memory", value=1),
    ),
    (
        "web-01.cpus: invalid value 'two'; expected an integer",
        _put("machines", "web-01", "cpus", value="two"),
    ),
    ("web-02.cpu: unknown key", _put("machines", "web-02", "cpu", value=2)),
    ("web-01.roles[3]: duplicate role app", _add_role("web-01", "app")),
    ("web-02.roles[3]: unknown role 'nginks'", _add_role("web-02", "nginks")),
    (
        "lb-01.address: 10.0.0.1 is outside",
        _put("machines", "lb-01", "address", value="10.0.0.1"),
    ),
    (
        "web-02.address: duplicate address 192.168.56.11",
        _put("machines", "web-02", "address", value="192.168.56.11"),
    ),
    (
        "machines.Web: invalid machine name",
        _put("machines", "Web", value={"address": "192.168.56.77", "roles": ["nginx"]}),
    ),
    (
        "lb-01.ssh.port: invalid value 0; expected an integer from",
        _put("machines", "lb-01", "ssh", value={"port": 0}),
    ),
]


@pytest.mark.parametrize("seed", range(60))
def test_all_errors_at_once_and_no_others(tmp_path: Path, seed: int) -> None:
    chosen = random.Random(seed).sample(MISTAKES, 1 + seed % len(MISTAKES))
    data = document()
    for _, damage in chosen:
        damage(data)
    lines = error_of(write(tmp_path, data)).splitlines()[:-1]  # the last one is the hint
    for words, _ in chosen:
        assert len([line for line in lines if words in line]) == 1, words
    assert len(lines) == len(chosen), lines
    numbers = [int(line.split(":")[1]) for line in lines]
    assert numbers == sorted(numbers)


def test_error_has_the_line_of_its_key() -> None:
    checked = 0
    for case in CASES:
        text = case.read_text().splitlines()
        for line in case.with_suffix(".txt").read_text().splitlines():
            place, _, what = line.partition(": ")
            key = re.match(r"[a-z]+(\.[A-Za-z0-9_.-]+)?(\[\d\])?(?=: )", what)
            rest = what.partition(": ")[2]
            if place == "next" or key is None or rest.startswith(("missing key", "key ")):
                continue  # a missing key is on no line; a key that is no string has only its line
            last = key[0].rpartition(".")[2].partition("[")[0]
            assert last in text[int(place.rpartition(":")[2]) - 1], line
            checked += 1
    assert checked > 60


@pytest.mark.parametrize("seed", range(8))
def test_damaged_file_is_an_error_and_never_a_traceback(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    texts = [case.read_text() for case in CASES] + [DISTRIBUTED.read_text()]
    for _ in range(40):
        text = dice.choice(texts)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(text))
            text = text[:at] + dice.choice(":-[]{}#&*!|>'\"%@`,?\t\n \0é1~") + text[at + 1 :]
        path = write(tmp_path, text)
        with contextlib.suppress(TopologyError):
            assert topology.load(path).name == "mine"


# --- files ---------------------------------------------------------------------------------------


def test_file_that_does_not_exist(tmp_path: Path) -> None:
    message = error_of(tmp_path / "no.yml")
    assert f"{tmp_path}/no.yml cannot be read: No such file" in message
    assert "choose from" in message
    assert "distributed" in message


def test_folder(tmp_path: Path) -> None:
    assert f"{tmp_path} cannot be read: Is a directory" in error_of(tmp_path)


def test_file_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "latin.yml"
    path.write_bytes("domain: foobar.com\n# größer\n".encode("latin-1"))
    assert f"{path}:2: byte 0xf6 is not UTF-8" in error_of(path)


def test_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "windows.yml"
    path.write_bytes(b"\xef\xbb\xbf" + DISTRIBUTED.read_bytes().replace(b"\n", b"\r\n"))
    assert topology.load(path).primary == "web-01"


def test_control_character(tmp_path: Path) -> None:
    path = write(tmp_path, "domain: foobar.com\nnetwork: \x00\n")
    assert f"{path}:2: invalid YAML: the character" in error_of(path)


def test_nested_too_deeply(tmp_path: Path) -> None:
    assert "nested too deeply" in error_of(write(tmp_path, "[" * 20000))


def test_find_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "configs" / "topologies"
    folder.mkdir(parents=True)
    mine = write(folder, document(), "mine.yml")
    assert topology.find("mine", tmp_path) == mine
    assert topology.find("mine.yml", tmp_path) == mine
    assert topology.find(str(mine), tmp_path) == mine
    assert topology.find("configs/topologies/mine.yml", tmp_path) == mine
    elsewhere = write(tmp_path, document(), "other.yml")
    monkeypatch.chdir(tmp_path)
    assert topology.find("./other.yml", ROOT) == elsewhere


@pytest.mark.parametrize("name", ["mien", "", "..", ".mine", "mine/", "/nowhere/mine.yml"])
def test_find_lists_the_names(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "configs" / "topologies"
    folder.mkdir(parents=True)
    write(folder, document(), "mine.yml")
    write(folder, document(), "yours.yml")
    with pytest.raises(TopologyError, match=r"unknown topology|does not exist") as caught:
        topology.find(name, tmp_path)
    assert "choose from mine, yours" in caught.value.hint
    if name == "mien":
        assert caught.value.what == "unknown topology 'mien'; did you mean mine?"
