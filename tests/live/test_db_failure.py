"""Databases: forced promotion, and the roles of servers after a restart."""

from __future__ import annotations

import time

import pytest

from tests.live import databases
from tests.live.conftest import RunningLab, wait_until
from tests.live.databases import (
    WEBS,
    Writers,
    is_writable,
    notes,
    primary,
    responds,
    status,
    writable,
    write,
)

pytestmark = pytest.mark.live
pair = databases.pair


# --- forced promotion ----------------------------------------------------------------------------


def test_a_running_primary_is_not_considered_dead(lab: RunningLab) -> None:
    result = lab.invoke("db.promote", "web-02", "--old-primary-is-dead", check=False)
    assert result.returncode == 1
    assert "web-01 is not dead: its database responds" in result.stderr
    assert writable(lab) == ["web-01"]


CUT = """
route=$(ip route show default)
ip link set eth0 down
sleep 25
ip link set eth0 up
[ -z "$route" ] || ip route add $route
"""


def test_a_network_partition_is_not_considered_a_dead_primary(pair: RunningLab) -> None:
    pair.out("web-01", "systemd-run", "--unit=t-cut", "bash", "-c", f"sleep 1; {CUT}")
    time.sleep(2)
    result = pair.invoke("db.promote", "web-02", "--old-primary-is-dead", check=False)
    assert result.returncode == 1
    assert "perhaps only the network is cut" in result.stderr
    assert f"invoke lab.kill --lab {pair.name} web-01" in result.stderr
    assert not is_writable(pair, "web-02")
    wait_until(lambda: responds(pair, "web-01"), "the network is up again", 60)


def test_the_primary_machine_is_killed(pair: RunningLab) -> None:
    with Writers(pair) as writers:
        pair.invoke("lab.kill", "web-01")
        output = pair.invoke("db.promote", "web-02", "--old-primary-is-dead").stdout
        writers.wait_for_writes()
    assert "web-02 is primary instead of web-01" in output
    assert not writers.missing(pair, "web-02")

    # It comes back, finds that it was replaced, and stays read-only.
    pair.invoke("lab.start", "web-01")
    journal = ["journalctl", "-b", "-u", "lab-mysql-role", "-o", "cat", "--no-pager"]
    wait_until(
        lambda: "deny: web-02 is writable" in pair.out("web-01", *journal),
        "web-01 stays read-only",
    )
    assert writable(pair) == ["web-02"]
    pair.invoke("db.rejoin", "web-01")
    wait_until(lambda: not writers.missing(pair, "web-01"), "the old primary has all writes")
    pair.up()
    pair.invoke("lab.check")


def test_mysqld_on_the_primary_is_stopped(pair: RunningLab) -> None:
    """The machine still runs: its database must not come back as primary."""
    pair.out("web-01", "systemctl", "stop", "mysql")
    pair.invoke("db.promote", "web-02", "--old-primary-is-dead")
    pair.out("web-01", "systemctl", "start", "mysql")
    wait_until(lambda: status(pair)["web-01"]["up"], "mysqld responds")
    time.sleep(1)
    assert writable(pair) == ["web-02"]
    pair.invoke("db.rejoin", "web-01")
    assert status(pair)["web-01"]["receiving"]


def test_mysqld_on_the_primary_hangs(pair: RunningLab) -> None:
    pair.out("web-01", "kill", "-STOP", pair.out("web-01", "pidof", "mysqld").strip())
    planned = pair.invoke("db.promote", "web-02", check=False)
    assert planned.returncode == 1
    assert "--old-primary-is-dead" in planned.stderr
    pair.invoke("db.promote", "web-02", "--old-primary-is-dead")
    assert writable(pair) == ["web-02"]
    assert pair.run("web-01", "pidof", "mysqld").status == 1
    pair.invoke("db.rejoin", "web-01")
    pair.invoke("lab.check")


def test_received_transactions_that_are_not_applied_are_not_lost(pair: RunningLab) -> None:
    """A lock on the replica blocks the applier thread while the primary dies."""
    lock = "FLUSH TABLES WITH READ LOCK; SELECT SLEEP(600)"
    pair.out("web-02", "systemd-run", "--unit=t-lock", "mysql", "-e", lock)
    running = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'"
    wait_until(lambda: pair.sql("web-02", running) == "1", "the lock")
    note = write(pair, "received, not applied")
    pair.invoke("lab.kill", "web-01")
    result = pair.invoke(
        "db.promote", "web-02", "--old-primary-is-dead", "--deadline", "2", check=False
    )
    assert result.returncode == 1
    assert "received on web-02 but not applied" in result.stderr
    assert "--deadline" in result.stderr
    assert writable(pair) == []
    assert primary(pair) == "web-01"
    pair.out("web-02", "systemctl", "stop", "t-lock")
    wait_until(lambda: pair.sql("web-02", running) == "0", "the lock is released", 60)
    pair.invoke("db.promote", "web-02", "--old-primary-is-dead")
    assert note in notes(pair, "web-02")
    pair.invoke("lab.start", "web-01")
    pair.invoke("db.rejoin", "web-01")


# --- roles after a restart -----------------------------------------------------------------------


def test_a_killed_mysqld_becomes_primary_again_automatically(pair: RunningLab) -> None:
    before = pair.out("web-01", "pidof", "mysqld")
    pair.out("web-01", "kill", "-9", before.strip())
    seconds = wait_until(lambda: writable(pair) == ["web-01"], "writable again", 20)
    assert seconds < 10
    assert pair.out("web-01", "pidof", "mysqld") != before


def test_a_killed_mysqld_becomes_primary_again_without_its_replica(pair: RunningLab) -> None:
    pair.invoke("lab.kill", "web-02")
    pair.out("web-01", "kill", "-9", pair.out("web-01", "pidof", "mysqld").strip())
    wait_until(lambda: writable(pair) == ["web-01"], "writable again", 20)


@pytest.mark.parametrize("order", [WEBS, WEBS[::-1]])
def test_a_reboot_of_both_without_the_controller(pair: RunningLab, order: tuple[str, str]) -> None:
    note = write(pair, "before the reboot")
    for name in WEBS:
        pair.invoke("lab.kill", name)
    first, second = order
    pair.invoke("lab.start", first)
    wait_until(lambda: pair.run(first, "mysqladmin", "ping").ok, f"{first} responds", 30)
    time.sleep(2)
    # A primary that reaches no peer might have been replaced; it waits.
    assert writable(pair) == []
    pair.invoke("lab.start", second)
    wait_until(lambda: writable(pair) == ["web-01"], "the recorded primary is writable", 30)
    wait_until(lambda: status(pair)["web-02"]["receiving"], "web-02 replicates", 30)
    assert note in notes(pair, "web-01")
