"""Automatic failover: only when the primary is certainly dead (db.autopromote)."""

from __future__ import annotations

import gzip
import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from provision.core.errors import HostError
from provision.core.lab import ROOT
from provision.providers.lxc.paths import LabPaths
from provision.providers.lxc.privileged import run
from tests.live.conftest import RunningLab, wait_until
from tests.live.databases import Writers, notes, primary, replica, status, writable

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


def replicates(lab: RunningLab, machine: str) -> bool:
    """Whether both replication threads run."""
    try:
        rows = lab.out(machine, "mysql", "--vertical", input="SHOW REPLICA STATUS")
    except (AssertionError, HostError):
        return False
    return all(f"{thread}_Running: Yes" in rows for thread in ("Replica_IO", "Replica_SQL"))


def set_link(lab: RunningLab, machine: str, state: str) -> None:
    session = lab.session()
    end = LabPaths.of(session.lab).veth(session.lab.machine(machine).address)
    run("the link", ["ip", "link", "set", "dev", end, state])


def wait_for_rejoin(lab: RunningLab, old: str, new: str, writers: Writers) -> None:
    """The old primary rejoins by itself; no acknowledged write is missing."""

    def follows() -> bool:
        state = status(lab)[old]
        return bool(state["up"]) and replicates(lab, old)

    seconds = wait_until(follows, "the old primary replicates", 90)
    print(f"rejoined after {seconds:.1f} s")
    assert writable(lab) == [new]
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
    assert seconds < 10  # about 4 s on a quiet host
    assert "automatic" in lab.invoke("db.status").stdout
    assert primary(lab) == new, "the record is updated"
    lab.invoke("lab.start", old)
    wait_for_rejoin(lab, old, new, writers)
    planned = lab.invoke("lab.plan", "--detailed-exitcode", check=False)
    assert planned.returncode == 0, planned.stdout


def test_what_only_the_old_primary_had_is_saved_and_reported(automatic: RunningLab) -> None:
    """A transaction that no replica has received, on a server that was fenced."""
    lab = automatic
    old, new = primary(lab), promotable(lab)
    set_link(lab, old, "down")
    try:
        wait_until(lambda: is_writable(lab, new), "the replica is promoted", 40)
        errant = (
            "SET GLOBAL rpl_semi_sync_source_enabled = OFF; SET GLOBAL super_read_only = OFF;"
            " INSERT INTO foobar.notes (id, author, text, host, created)"
            " VALUES (UUID(), 'errant', 'only here', 'x', NOW(3));"
            " SET GLOBAL super_read_only = ON;"
        )
        end = LabPaths.of(lab.session().lab)
        command = ["lxc-attach", "-P", str(end.directory), "-n", old, "--", "mysql", "-e", errant]
        run("errant", command)
    finally:
        set_link(lab, old, "up")
    wait_until(lambda: replicates(lab, old), "the old primary replicates", 120)
    failed = lab.json("lab.check", check=False)["checks"]
    assert any(c["check"] == f"errant/{old}" and c["status"] == "failed" for c in failed)
    up = lab.up()
    assert f"{old}: it rejoined by itself; the transactions that only it had are in" in up.stdout
    (path,) = (ROOT / ".lab" / lab.name / "errant").glob(f"{old}-*.sql.gz")
    assert b"only here" in gzip.decompress(path.read_bytes())
    assert "only here" not in lab.sql(new, "SELECT text FROM foobar.notes WHERE author = 'errant'")
    path.unlink()


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
    wait_for_rejoin(lab, old, new, writers)


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
