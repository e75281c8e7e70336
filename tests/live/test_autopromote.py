"""The lab promotes by itself when the primary is certainly dead, and only then: db.autopromote."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from provision.core.errors import HostError
from provision.providers.lxc import places
from provision.providers.lxc.privileged import run
from tests.live.conftest import RunningLab, wait_until
from tests.live.test_db import Writers, notes, primary, replica, status, writable

pytestmark = pytest.mark.live

SAMPLER = """
import sys, time
sys.path.insert(0, "/usr/local/lib/foobar-lab/autopromote")
from provision.database.agent import client as mysql_client
client, end = None, time.time() + 100
with open("/var/tmp/t-samples", "w") as file:
    while time.time() < end:
        try:
            client = client or mysql_client.local(1.0)
            if client.value("SELECT @@global.read_only + @@global.super_read_only") == "0":
                file.write(f"{time.time():.4f}\\n")
                file.flush()
        except mysql_client.MysqlError:
            client = None
        time.sleep(0.01)
"""
"""Notes when this machine's database takes writes; all machines have the host's clock."""


def sample(lab: RunningLab) -> None:
    """Begin to note on both machines when they take writes."""
    for name in (primary(lab), replica(lab)):
        lab.run(name, "systemctl", "stop", "t-sampler")
        argv = ["systemd-run", "--collect", "--unit=t-sampler", "python3", "-c", SAMPLER]
        lab.out(name, *argv)


def sampled(lab: RunningLab, machine: str) -> list[float]:
    """When it took writes."""
    text = lab.out(machine, "cat", "/var/tmp/t-samples")
    # The last line of a machine that was killed may be half a line.
    return [float(line) for line in text.splitlines() if len(line) > 14]


def state(lab: RunningLab) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.invoke("db.autopromote", "status", "--json").stdout)
    return found


def promotable(lab: RunningLab) -> str:
    wait_until(lambda: bool(state(lab)["promotable"]), "a replica is promotable", 40)
    return str(state(lab)["promotable"])


def leads(lab: RunningLab, machine: str) -> bool:
    try:
        return lab.sql(machine, "SELECT @@read_only") == "0"
    except (AssertionError, HostError):
        return False


def cable(lab: RunningLab, machine: str, word: str) -> None:
    now = lab.session()
    end = places.veth(now.lab, now.lab.machine(machine))
    run("the cable", ["ip", "link", "set", "dev", end, word])


def returned(lab: RunningLab, old: str, new: str, writers: Writers) -> None:
    """The old primary is back: read-only, rejoined, and nothing acknowledged is missing."""
    wait_until(lambda: status(lab)[old]["status"]["up"], "the old primary answers", 60)
    assert writable(lab) == [new]
    lab.invoke("db.rejoin", old)
    assert not writers.missing(lab, new)
    wait_until(lambda: not writers.missing(lab, old), "the old primary has everything")
    first, last = sampled(lab, new)[0], sampled(lab, old)
    assert max(last) < first, "two servers took writes"
    assert len(notes(lab, new)) == len(set(notes(lab, new)))
    assert promotable(lab) == old


@pytest.fixture(scope="module")
def automatic(lab: RunningLab) -> Iterator[RunningLab]:
    """The session's lab with automatic promotion on; afterwards as it was."""
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
        seconds = wait_until(lambda: leads(lab, new), "the replica is promoted", 40)
        writers.go_on()
    print(f"killed: writable after {seconds:.1f} s")
    assert seconds < 20
    assert "automatic" in lab.invoke("db.status").stdout
    assert primary(lab) == new, "the record follows"
    lab.invoke("lab.start", old)
    returned(lab, old, new, writers)
    planned = lab.invoke("lab.plan", "--detailed-exitcode", check=False)
    assert planned.returncode == 0, planned.stdout


def test_the_primary_is_cut_off(automatic: RunningLab) -> None:
    lab = automatic
    old, new = primary(lab), promotable(lab)
    sample(lab)
    with Writers(lab) as writers:
        cable(lab, old, "down")
        try:
            seconds = wait_until(lambda: leads(lab, new), "the replica is promoted", 40)
            writers.go_on()
        finally:
            cable(lab, old, "up")
    print(f"cut: writable after {seconds:.1f} s")
    returned(lab, old, new, writers)


def test_a_primary_that_one_party_sees_is_left_alone(automatic: RunningLab) -> None:
    lab = automatic
    old, epoch = primary(lab), lab.session().state.epoch
    promotable(lab)
    third = str(lab.session().lab.front.address)
    lab.out(old, "ip", "route", "add", "blackhole", f"{third}/32")
    try:
        time.sleep(9)
        assert leads(lab, old), "the replica's word is enough for the lease"
        journal = ["journalctl", "-u", "lab-autopromote", "-o", "cat", "-n", "3", "--no-pager"]
        assert "is not replaced" in lab.out("lb-01", *journal)
    finally:
        lab.out(old, "ip", "route", "del", "blackhole", f"{third}/32")
    assert writable(lab) == [old]
    assert status(lab)[old]["status"]["epoch"] == epoch


def test_the_replica_dies(automatic: RunningLab) -> None:
    lab = automatic
    old, other, epoch = primary(lab), promotable(lab), lab.session().state.epoch
    with Writers(lab) as writers:
        lab.invoke("lab.kill", other)
        writers.go_on()
        assert state(lab)["promotable"] == ""
    moments = sorted(moment for moment, _ in writers.acknowledged)
    pause = max(b - a for a, b in itertools.pairwise(moments))
    print(f"replica killed: {pause:.1f} s without writes")
    assert pause < 10
    lab.invoke("lab.start", other)
    assert promotable(lab) == other
    assert not writers.missing(lab, other), "promotable only with everything"
    assert writable(lab) == [old]
    assert lab.session().state.epoch == epoch


def test_off_does_nothing(automatic: RunningLab) -> None:
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
        wait_until(lambda: leads(lab, old), "it is primary again", 40)
        assert not leads(lab, other)
    finally:
        lab.invoke("db.autopromote", "on")
