"""Libvirt for the vm tests: its daemons are started where no init system runs them.

Daemons that are started here are stopped again, by process id, and existing machines, networks and
firewall rules are not changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from provision.core.waiting import wait_until

SOCKET = Path("/run/libvirt/libvirt-sock")
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
DAEMONS = ("virtlogd", "libvirtd")
VIRSH = ("virsh", "-c", "qemu:///system")


def virsh(*words: str) -> list[str]:
    """The words of virsh's output."""
    result = subprocess.run([*VIRSH, *words], capture_output=True, text=True, check=False)
    return result.stdout.split()


@pytest.fixture(scope="session")
def libvirt() -> Iterator[None]:
    """Libvirt runs; at the end, everything that the tests added is removed."""
    for program in ("vagrant", "virsh", "qemu-system-x86_64"):
        assert shutil.which(program), f"no {program} here: scripts/test --vm installs it"
    started = []
    rules, forwarding = _rules(), FORWARDING.read_text()
    if not SOCKET.exists():
        for name in DAEMONS:
            pidfile = Path(f"/run/{name}.pid")
            subprocess.run([name, "-d"], check=True)
            wait_until(pidfile.exists, 30, f"{name} to start")
            started.append(int(pidfile.read_text()))
        wait_until(SOCKET.exists, 30, "libvirt's socket")
    before = _inventory()
    try:
        yield
    finally:
        _restore(before)
        for pid in reversed(started):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            wait_until(partial(_has_ended, pid), 60, f"process {pid} to end")
        if started:
            for path in (SOCKET, SOCKET.with_name("libvirt-sock-ro")):
                path.unlink(missing_ok=True)
            # A stopped daemon leaves its chains, some in tables of others.
            _delete_chains(_rules() - rules)
            FORWARDING.write_text(forwarding)
            assert _rules() == rules


def _rules() -> set[tuple[str, str, str]]:
    """The firewall's tables and chains: family, table, and chain (empty for a table)."""
    names = set()
    for entry in _ruleset():
        if "table" in entry:
            names.add((entry["table"]["family"], entry["table"]["name"], ""))
        elif "chain" in entry:
            chain = entry["chain"]
            names.add((chain["family"], chain["table"], chain["name"]))
    return names


def _ruleset() -> list[dict[str, Any]]:
    argv = ["nft", "--json", "--handle", "list", "ruleset"]
    result = subprocess.run(argv, capture_output=True, text=True, check=True)
    listed: list[dict[str, Any]] = json.loads(result.stdout)["nftables"]
    return listed


def _delete_chains(new: set[tuple[str, str, str]]) -> None:
    """Delete new tables, and new chains in existing tables."""
    tables = {name[:2] for name in new if not name[2]}
    chains = {name for name in new if name[2] and name[:2] not in tables}
    for entry in _ruleset():
        rule = entry.get("rule", {})
        place = (rule.get("family"), rule.get("table"))
        jumps = (e.get(word, {}) for e in rule.get("expr", ()) for word in ("jump", "goto"))
        if any((*place, to.get("target")) in chains for to in jumps if to):
            _nft("delete", "rule", *place, rule["chain"], "handle", str(rule["handle"]))
    for chain in chains:
        _nft("flush", "chain", *chain)
    for chain in chains:
        _nft("delete", "chain", *chain)
    for table in tables:
        _nft("delete", "table", *table)


def _nft(*words: str) -> None:
    subprocess.run(["nft", *words], check=True)


def _inventory() -> dict[str, set[str]]:
    # "vol-list" has no --name: it lists names, and paths with a slash
    volumes = virsh("vol-list", "default") if "default" in _pools() else []
    return {
        "domains": set(virsh("list", "--all", "--name")),
        "networks": set(virsh("net-list", "--all", "--name")),
        "active": set(virsh("net-list", "--name")),
        "volumes": {v for v in volumes if v.endswith(".img") and "/" not in v},
    }


def _pools() -> list[str]:
    return virsh("pool-list", "--name")


def _restore(before: dict[str, set[str]]) -> None:
    """Remove what the tests added: machines, networks and copies of the box."""
    current = _inventory()
    for name in current["domains"] - before["domains"]:
        virsh("destroy", name)
        for snapshot in virsh("snapshot-list", name, "--name"):
            virsh("snapshot-delete", name, snapshot, "--metadata")
        virsh("undefine", name, "--remove-all-storage")
    for name in current["active"] - before["active"]:
        virsh("net-destroy", name)
    for name in current["networks"] - before["networks"]:
        virsh("net-undefine", name)
    for name in _inventory()["volumes"] - before["volumes"]:
        virsh("vol-delete", "--pool", "default", name)
    after = _inventory()
    assert after["domains"] == before["domains"]
    assert after["networks"] == before["networks"]


def _has_ended(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()
