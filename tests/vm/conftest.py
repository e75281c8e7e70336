"""Virtual machines for the vm tests: libvirt's daemons where no init system runs them.

Everything that is started here is ended again, by its process id, and nothing that was there
before is touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SOCKET = Path("/run/libvirt/libvirt-sock")
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
DAEMONS = ("virtlogd", "libvirtd")
VIRSH = ("virsh", "-c", "qemu:///system")


def virsh(*words: str) -> list[str]:
    """What virsh lists, line by line."""
    done = subprocess.run([*VIRSH, *words], capture_output=True, text=True, check=False)
    return done.stdout.split()


@pytest.fixture(scope="session")
def libvirt() -> Iterator[None]:
    """Libvirt runs, and afterwards has nothing that it did not have before."""
    for program in ("vagrant", "virsh", "qemu-system-x86_64"):
        assert shutil.which(program), f"no {program} here: scripts/test --vm installs it"
    started = []
    rules, forwarding = _rules(), FORWARDING.read_text()
    if not SOCKET.exists():
        for name in DAEMONS:
            pidfile = Path(f"/run/{name}.pid")
            subprocess.run([name, "-d"], check=True)
            _until(pidfile.exists, f"{name} runs", 30)
            started.append(int(pidfile.read_text()))
        _until(SOCKET.exists, "libvirt's socket is there", 30)
    before = _inventory()
    try:
        yield
    finally:
        _leave(before)
        for pid in reversed(started):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            _until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), f"{pid} ends", 60)
        if started:
            for path in (SOCKET, SOCKET.with_name("libvirt-sock-ro")):
                path.unlink(missing_ok=True)
            # A daemon that ends leaves its chains, in tables that others may have made.
            _forget(_rules() - rules)
            FORWARDING.write_text(forwarding)
            assert _rules() == rules


def _rules() -> set[tuple[str, str, str]]:
    """The firewall's tables and chains: family, table, and chain or nothing."""
    found = set()
    for each in _ruleset():
        if "table" in each:
            found.add((each["table"]["family"], each["table"]["name"], ""))
        elif "chain" in each:
            chain = each["chain"]
            found.add((chain["family"], chain["table"], chain["name"]))
    return found


def _ruleset() -> list[dict[str, Any]]:
    asked = ["nft", "--json", "--handle", "list", "ruleset"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    listed: list[dict[str, Any]] = json.loads(done.stdout)["nftables"]
    return listed


def _forget(new: set[tuple[str, str, str]]) -> None:
    """Remove tables that were not there, and chains from those that were."""
    tables = {each[:2] for each in new if not each[2]}
    chains = {each for each in new if each[2] and each[:2] not in tables}
    for each in _ruleset():
        rule = each.get("rule", {})
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
    # "vol-list" knows no --name: names and paths, of which the latter have a slash
    volumes = virsh("vol-list", "default") if "default" in _pools() else []
    return {
        "domains": set(virsh("list", "--all", "--name")),
        "networks": set(virsh("net-list", "--all", "--name")),
        "active": set(virsh("net-list", "--name")),
        "volumes": {v for v in volumes if v.endswith(".img") and "/" not in v},
    }


def _pools() -> list[str]:
    return virsh("pool-list", "--name")


def _leave(before: dict[str, set[str]]) -> None:
    """Remove what the tests added: machines, their networks, copies of the box."""
    now = _inventory()
    for name in now["domains"] - before["domains"]:
        virsh("destroy", name)
        for snapshot in virsh("snapshot-list", name, "--name"):
            virsh("snapshot-delete", name, snapshot, "--metadata")
        virsh("undefine", name, "--remove-all-storage")
    for name in now["active"] - before["active"]:
        virsh("net-destroy", name)
    for name in now["networks"] - before["networks"]:
        virsh("net-undefine", name)
    for name in _inventory()["volumes"] - before["volumes"]:
        virsh("vol-delete", "--pool", "default", name)
    after = _inventory()
    assert after["domains"] == before["domains"]
    assert after["networks"] == before["networks"]


def _until(true: object, what: str, seconds: float) -> None:
    assert callable(true)
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not after {seconds} s: {what}"
        time.sleep(0.1)
