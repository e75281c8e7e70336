"""Helpers of the tests of provider lxc: labs with machines that are not configured."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Network
from pathlib import Path

from provision.core.endpoint import Endpoint
from provision.core.lab import Lab, Machine, Topology
from provision.core.package_set import PackageSet
from provision.providers.lxc import host_facts, paths, prune
from provision.providers.lxc.container import SOCKETS
from provision.providers.lxc.privileged import run
from provision.providers.lxc.provider import LxcProvider

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


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Poll until the condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)
