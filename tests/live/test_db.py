"""Databases: their status, and planned promotions under writes."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest

from provision.core.lab import ROOT
from tests.live import databases
from tests.live.conftest import RunningLab, wait_until
from tests.live.databases import Writers, notes, primary, status, writable, write

pytestmark = pytest.mark.live
pair = databases.pair


# --- status --------------------------------------------------------------------------------------


def test_status(lab: RunningLab) -> None:
    servers = status(lab)
    assert servers["web-01"]["role"] == "primary"
    assert servers["web-01"]["writable"]
    assert servers["web-01"]["semi_sync"]
    assert servers["web-02"]["role"] == "replica"
    assert not servers["web-02"]["writable"]
    assert servers["web-02"]["receiving"]
    assert servers["web-02"]["errant_gtids"] == ""
    assert all(server["next_backup"] for server in servers.values())
    assert "semi-sync" in lab.invoke("db.status").stdout


def test_shell_passes_arguments_to_mysql(lab: RunningLab) -> None:
    query = ["--", "-Ne", "SELECT @@hostname, 'two words'"]
    assert lab.invoke("db.shell", *query).stdout == "web-01\ttwo words\n"
    assert lab.invoke("db.shell", "--machine", "web-02", *query).stdout.startswith("web-02")
    failed = lab.invoke("db.shell", "--", "-e", "SELECT nonsense", check=False)
    assert failed.returncode == 1


def test_a_fallback_to_async_is_reported(pair: RunningLab) -> None:
    pair.sql("web-02", "STOP REPLICA IO_THREAD")
    write(pair, "no replica acknowledges this")
    assert not status(pair)["web-01"]["semi_sync"]
    assert pair.invoke("lab.check", check=False).returncode == 1
    pair.sql("web-02", "START REPLICA IO_THREAD")
    wait_until(lambda: status(pair)["web-01"]["semi_sync"], "semi-sync again")


def test_writes_continue_when_the_only_replica_dies(pair: RunningLab) -> None:
    pair.invoke("lab.kill", "web-02")
    began = time.monotonic()
    write(pair, "without a replica")
    assert time.monotonic() - began < 4


# --- planned promotion ---------------------------------------------------------------------------


def test_a_planned_promotion_loses_nothing(pair: RunningLab) -> None:
    with Writers(pair) as writers:
        output = pair.invoke("db.promote", "web-02").stdout
        assert writable(pair) == ["web-02"]
        writers.wait_for_writes()
    pause = re.search(r"([\d.]+) s without writes", output)
    assert pause
    assert float(pause.group(1)) <= 1
    assert primary(pair) == "web-02"
    wait_until(lambda: not writers.missing(pair, "web-01"), "the old primary has all writes")
    assert not writers.missing(pair, "web-02")
    assert len(notes(pair, "web-02")) == len(set(notes(pair, "web-02")))
    planned = pair.invoke("lab.plan", "--detailed-exitcode", check=False)
    assert planned.returncode == 0, planned.stdout


def test_promoting_the_primary_changes_nothing(lab: RunningLab) -> None:
    before = status(lab)["web-01"]["executed_gtids"]
    assert "web-01 is primary" in lab.invoke("db.promote", "web-01").stdout
    assert status(lab)["web-01"]["executed_gtids"] == before


@pytest.mark.parametrize("machine", ["lb-01", "web-99"])
def test_machines_without_a_database_cannot_be_promoted(lab: RunningLab, machine: str) -> None:
    result = lab.invoke("db.promote", machine, check=False)
    assert result.returncode == 2
    assert "web-01" in result.stderr


def test_a_replica_that_does_not_catch_up_is_not_promoted(pair: RunningLab) -> None:
    pair.sql("web-02", "STOP REPLICA SQL_THREAD")
    write(pair, "not applied")
    result = pair.invoke("db.promote", "web-02", "--deadline", "2", check=False)
    assert result.returncode == 1
    assert "did not catch up" in result.stderr
    assert writable(pair) == ["web-01"]
    write(pair, "writes continue")


KILLED = """
import os, sys
sys.path.insert(0, {root!r})
from provision.operations.session import open_session
from provision.database import promote as db_promote
opened = open_session({lab!r})
with opened.lock(), opened.fleet() as fleet:
    db_promote.promote(
        opened.context, fleet, "web-02",
        on_step=lambda step: os._exit(9) if step == {step!r} else None,
    )
"""


@pytest.mark.parametrize(
    ("step", "finish", "expected"),
    [
        ("fenced", "lab.up", "web-01"),
        ("fenced", "db.promote web-02", "web-02"),
        ("caught up", "lab.up", "web-01"),
        ("recorded", "lab.up", "web-02"),
        ("recorded", "db.promote web-02", "web-02"),
        ("promoted", "lab.up", "web-02"),
    ],
)
def test_the_controller_is_killed_during_a_promotion(
    pair: RunningLab, step: str, finish: str, expected: str
) -> None:
    script = KILLED.format(root=str(ROOT), lab=pair.name, step=step)
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, timeout=120)
    assert result.returncode == 9
    assert len(writable(pair)) <= 1
    pair.invoke(*finish.split())
    assert writable(pair) == [expected]
    assert primary(pair) == expected
    write(pair, f"after {step}")
    pair.invoke("lab.check")
