"""The ssh provider: containers that exist before the lab, and remain after it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml

from provision import topology
from provision.core.endpoint import Endpoint
from provision.core.lab import ROOT, Lab, rebase
from provision.providers.lxc import host_facts
from provision.providers.lxc.paths import LabPaths
from provision.providers.lxc.privileged import run
from provision.providers.lxc.provider import LxcProvider
from provision.topology import labs

pytestmark = pytest.mark.live

INVOKE = str(Path(sys.executable).with_name("invoke"))
NAME = "x-existing"
"""A name outside conftest.py's clean-up: lab.destroy is refused for these machines."""


def report(machine: str, doing: str) -> None:
    """Progress, shown by pytest when a test fails."""
    print(f"{machine}: {doing}")


def free_network() -> IPv4Network:
    """A network that is not in use on this host."""
    used = [network for network, _ in host_facts.used_networks("")]
    networks = IPv4Network("10.77.64.0/20").subnets(new_prefix=24)
    return next(n for n in networks if not any(n.overlaps(u) for u in used))


@dataclass
class Existing:
    """Three Debian machines that are not configured, and a lab on them.

    Args:
        made: the lab that created them, which the commands do not know.
        endpoints: how they are reached.
        home: a home folder for the commands, with its own OpenSSH files.
        topology: the file that describes them.
    """

    made: Lab
    endpoints: Mapping[str, Endpoint]
    home: Path
    topology: Path

    def write(self, **more: Mapping[str, str]) -> None:
        """Write the topology file; ``more`` goes into ``ssh:`` of single machines."""
        source = yaml.safe_load(topology.find("distributed").read_text())
        source["network"] = str(self.made.network)
        for machine in self.made.machines:
            end = self.endpoints[machine.name]
            entry = source["machines"][machine.name]
            entry["address"] = str(machine.address)
            ssh = {"address": end.address, "user": end.user, "key": str(end.key)}
            entry["ssh"] = ssh | dict(more.get(machine.name, {}))
        self.topology.write_text(yaml.safe_dump(source, sort_keys=False))

    def invoke(self, *words: str, ok: bool = True, timeout: float = 500) -> str:
        """Run a task on the lab; returns its output."""
        assert PROVIDER.network_problem(self.made) == ""
        result = subprocess.run(
            [INVOKE, *words, "--lab", NAME],
            cwd=ROOT,
            env={**os.environ, "HOME": str(self.home)},
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
        output = result.stdout + result.stderr
        assert "Traceback" not in output, output
        assert (result.returncode == 0) == ok, output
        return output

    def on(self, machine: str, command: str) -> str:
        """The output of a command on a machine, over plain ssh."""
        assert PROVIDER.network_problem(self.made) == ""
        end = self.endpoints[machine]
        known = self.home / "known-by-test"
        known.write_text(f"{end.address} {end.host_key}\n")
        options = ["StrictHostKeyChecking=yes", f"UserKnownHostsFile={known}", "BatchMode=yes"]
        argv = ["ssh", "-F", "/dev/null", "-i", str(end.key), *(f"-o{o}" for o in options)]
        argv += [f"{end.user}@{end.address}", command]
        result = subprocess.run(argv, text=True, capture_output=True, check=False, timeout=60)
        return result.stdout


PROVIDER = LxcProvider()


@pytest.fixture(scope="module")
def existing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Existing]:
    """Three new machines, which are removed at the end together with the lab's record."""
    folder = tmp_path_factory.mktemp("existing")
    read = topology.load(topology.find("distributed"))
    made = Lab("default", folder, rebase(read, free_network()))
    (folder / "home" / ".ssh").mkdir(parents=True, mode=0o700)
    record = Lab(NAME, ROOT, read)
    labs.delete_directory(record)
    try:
        endpoints = PROVIDER.up(made, report, {})
        machines = Existing(made, endpoints, folder / "home", folder / "mine.yml")
        machines.write()
        yield machines
    finally:
        PROVIDER.destroy(made, report)
        labs.delete_directory(record)


STATE = """
    dpkg-query -W -f '${Package} ${db:Status-Status}\\n' | grep ' installed$' | sort
    getent passwd lab foobar; sudo sha256sum /etc/hosts
    sudo find /etc/systemd/system /srv /usr/local -mindepth 1 | sort
    ls /var/lib | grep -E 'foobar|mysql'
"""
"""A machine's packages, and the folders that a lab writes to."""


def test_an_unknown_host_key_is_reported_and_refused(existing: Existing) -> None:
    output = existing.invoke(
        "lab.up", "--provider", "ssh", "--topology", str(existing.topology), ok=False
    )
    for name, end in existing.endpoints.items():
        assert f"{name}: the host key of {end.address} is unknown (ssh-ed25519 SHA256:" in output
        assert f"host_key: {end.host_key.strip()}" in output
    assert "--pin" in output
    assert not (ROOT / ".lab" / NAME / "state.json").exists()


def test_unsuitable_machines_are_reported_with_the_reason(existing: Existing) -> None:
    other = existing.home / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    inside = ["lxc-attach", "-P", str(LabPaths.of(existing.made).directory), "-n", "web-01", "--"]
    run("removing sudo", [*inside, "mv", "/etc/sudoers.d/lab", "/root/lab"])
    existing.write(
        **{"lb-01": {"key": str(other)}, "web-02": {"port": "23"}},
    )
    text = existing.topology.read_text().replace("port: '23'", "port: 23")
    existing.topology.write_text(text)
    try:
        output = existing.invoke(
            "lab.up", "--provider", "ssh", "--pin", "--topology", str(existing.topology), ok=False
        )
    finally:
        run("restoring sudo", [*inside, "mv", "/root/lab", "/etc/sudoers.d/lab"])
        existing.write()
    assert f"lb-01: login as lab with key {other} was refused" in output
    assert "web-01: lab cannot use sudo without a password" in output
    assert (
        f"web-02: no SSH server responds at {existing.endpoints['web-02'].address} port 23"
        in output
    )


def test_the_lab_comes_up_and_can_be_removed_again(existing: Existing) -> None:
    before = {name: existing.on(name, STATE) for name in existing.endpoints}
    arguments = ("--provider", "ssh", "--topology", str(existing.topology))
    inventory = existing.home / "inventory.yml"
    known = {n: {"host_key": e.host_key.strip()} for n, e in existing.endpoints.items()}
    known["lb-01"] = {}  # this one is in the user's own known_hosts
    end = existing.endpoints["lb-01"]
    (existing.home / ".ssh" / "known_hosts").write_text(f"{end.address} {end.host_key}\n")
    known["web-02"]["jump"] = f"lab@{end.address}"  # and this one is reached through that one
    inventory.write_text(yaml.safe_dump({"machines": {n: k for n, k in known.items() if k}}))

    output = existing.invoke("lab.up", *arguments, "--inventory", str(inventory))
    assert f"http://{existing.made.front.address}/ is www.foobar.com" in output
    recorded = json.loads((ROOT / ".lab" / NAME / "existing.json").read_text())
    assert {n: m["host_key"] for n, m in recorded["machines"].items()} == {
        n: " ".join(e.host_key.split()[:2]) for n, e in existing.endpoints.items()
    }

    assert recorded["machines"]["web-02"]["jump"] == f"lab@{end.address}:22"
    assert recorded["machines"]["web-02"]["jump_host_key"] == " ".join(end.host_key.split()[:2])

    again = existing.invoke("lab.up", "--inventory", str(inventory))
    assert again.count(" 0 changed") == 3, again
    assert existing.invoke("lab.check")
    for words in (["lab.halt"], ["lab.kill", "web-01"], ["lab.destroy", "--yes"]):
        refused = existing.invoke(*words, ok=False)
        assert "provider ssh cannot" in refused, refused

    plan = existing.invoke("lab.clean")
    assert "packages to purge:" in plan
    assert "nothing was changed; next: invoke lab.clean" in plan
    assert existing.invoke("lab.check")
    existing.invoke("lab.clean", "--yes")
    assert not (ROOT / ".lab" / NAME).exists()
    for name, text in before.items():
        left = sorted(set(existing.on(name, STATE).splitlines()) ^ set(text.splitlines()))
        # MySQL's packages replace the C library by sid's, with one library more; that stays.
        assert [line for line in left if not line.startswith(("gcc-", "lib"))] == [], (name, left)
