"""Automatic failover: only when the primary is certainly dead (db.autopromote)."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from provision.core.errors import HostError
from provision.providers.lxc.paths import LabPaths
from provision.providers.lxc.privileged import run
from tests.live.conftest import RunningLab, wait_until
from tests.live.test_db import Writers, notes, primary, replica, status, writable

pytestmark = pytest.mark.live

SAMPLER = """
import sys, time
sys.path.insert(0, "/usr/local/lib/foobar-lab/autopromote")
from provision.database.agent.session import MysqlError, connect_local
session, end = None, time.time() + 100
with open("/var/tmp/t-samples", "w") as file:
    while time.time() < end:
        try:
            session = session or connect_local(1.0)
            if session.value("SELECT @@global.read_only + @@global.super_read_only") == "0":
                file.write(f"{time.time():.4f}\\n")
                file.flush()
        except MysqlError:
            session = None
        time.sleep(0.01)
"""
"""Records when this machine's database is writable; all machines have the host's clock."""


def sample(lab: RunningLab) -> None:
    """Start recording on both machines when they are writable."""
    for name in (primary(lab), replica(lab)):
        lab.run(name, "systemctl", "stop", "t-sampler")
        argv = ["systemd-run", "--collect", "--unit=t-sampler", "python3", "-c", SAMPLER]
        lab.out(name, *argv)


def sampled(lab: RunningLab, machine: str) -> list[float]:
    """The times at which the database was writable."""
    text = lab.out(machine, "cat", "/var/tmp/t-samples")
    # The last line of a killed machine may be incomplete.
    return [float(line) for line in text.splitlines() if len(line) > 14]


def failover_status(lab: RunningLab) -> dict[str, Any]:
    return lab.json("db.autopromote", "status")


def promotable(lab: RunningLab) -> str:
    wait_until(lambda: bool(failover_status(lab)["promotable"]), "a replica is promotable", 40)
    return str(failover_status(lab)["promotable"])


def is_writable(lab: RunningLab, machine: str) -> bool:
    try:
        return lab.sql(machine, "SELECT @@read_only") == "0"
    except (AssertionError, HostError):
        return False


def set_link(lab: RunningLab, machine: str, state: str) -> None:
    session = lab.session()
    end = LabPaths.of(session.lab).veth(session.lab.machine(machine).address)
    run("the link", ["ip", "link", "set", "dev", end, state])


def rejoin_old_primary(lab: RunningLab, old: str, new: str, writers: Writers) -> None:
    """The old primary returns read-only and rejoins; no acknowledged write is missing."""
    wait_until(lambda: status(lab)[old]["up"], "the old primary responds", 60)
    assert writable(lab) == [new]
    lab.invoke("db.rejoin", old)
    assert not writers.missing(lab, new)
    wait_until(lambda: not writers.missing(lab, old), "the old primary has everything")
    first, last = sampled(lab, new)[0], sampled(lab, old)
    assert max(last) < first, "two servers were writable"
    assert len(notes(lab, new)) == len(set(notes(lab, new)))
    assert promotable(lab) == old


@pytest.fixture(scope="module")
def automatic(lab: RunningLab) -> Iterator[RunningLab]:
    """The session's lab with automatic failover on; restored afterwards."""
    lab.invoke("db.autopromote", "on")
    yield lab
    lab.invoke("db.autopromote", "off")
    lab.up()
    if primary(lab) != "web-01":
        lab.invoke("db.promote", "web-01")


def test_the_primary_machine_dies(automatic: RunningLab) -> None:
    lab = automatic
    old, new = primary(lab), promotable(lab)
    sample(lab)
    with Writers(lab) as writers:
        lab.invoke("lab.kill", old)
        seconds = wait_until(lambda: is_writable(lab, new), "the replica is promoted", 40)
        writers.wait_for_writes()
    print(f"killed: writable after {seconds:.1f} s")
    assert seconds < 20
    assert "automatic" in lab.invoke("db.status").stdout
    assert primary(lab) == new, "the record is updated"
    lab.invoke("lab.start", old)
    rejoin_old_primary(lab, old, new, writers)
    planned = lab.invoke("lab.plan", "--detailed-exitcode", check=False)
    assert planned.returncode == 0, planned.stdout


def test_the_primary_is_partitioned(automatic: RunningLab) -> None:
    lab = automatic
    old, new = primary(lab), promotable(lab)
    sample(lab)
    with Writers(lab) as writers:
        set_link(lab, old, "down")
        try:
            seconds = wait_until(lambda: is_writable(lab, new), "the replica is promoted", 40)
            writers.wait_for_writes()
        finally:
            set_link(lab, old, "up")
    print(f"partitioned: writable after {seconds:.1f} s")
    rejoin_old_primary(lab, old, new, writers)


def test_no_failover_while_the_replica_reaches_the_primary(automatic: RunningLab) -> None:
    lab = automatic
    old, epoch = primary(lab), lab.session().state.epoch
    promotable(lab)
    witness = str(lab.session().lab.front.address)
    lab.out(old, "ip", "route", "add", "blackhole", f"{witness}/32")
    try:
        time.sleep(9)
        assert is_writable(lab, old), "the replica's grant is enough for the lease"
        journal = ["journalctl", "-u", "lab-autopromote", "-o", "cat", "-n", "3", "--no-pager"]
        assert "no failover" in lab.out("lb-01", *journal)
    finally:
        lab.out(old, "ip", "route", "del", "blackhole", f"{witness}/32")
    assert writable(lab) == [old]
    assert status(lab)[old]["epoch"] == epoch


def test_the_replica_dies(automatic: RunningLab) -> None:
    lab = automatic
    old, other, epoch = primary(lab), promotable(lab), lab.session().state.epoch
    with Writers(lab) as writers:
        lab.invoke("lab.kill", other)
        writers.wait_for_writes()
        assert failover_status(lab)["promotable"] == ""
    moments = sorted(moment for moment, _ in writers.acknowledged)
    pause = max(b - a for a, b in itertools.pairwise(moments))
    print(f"replica killed: {pause:.1f} s without writes")
    assert pause < 10
    lab.invoke("lab.start", other)
    assert promotable(lab) == other
    assert not writers.missing(lab, other), "promotable only with every write"
    assert writable(lab) == [old]
    assert lab.session().state.epoch == epoch


def test_without_automatic_failover_nothing_is_promoted(automatic: RunningLab) -> None:
    lab = automatic
    old, other = primary(lab), replica(lab)
    lab.invoke("db.autopromote", "off")
    try:
        assert lab.sql(old, "SELECT @@rpl_semi_sync_source_timeout") == "1500"
        lab.invoke("lab.kill", old)
        time.sleep(9)
        assert writable(lab) == []
        assert "off" in lab.invoke("db.autopromote", "status").stdout
        lab.invoke("lab.start", old)
        wait_until(lambda: is_writable(lab, old), "it is writable again", 40)
        assert not is_writable(lab, other)
    finally:
        lab.invoke("db.autopromote", "on")
