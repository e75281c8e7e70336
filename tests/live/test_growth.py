"""Bounds of what grows: logs of a machine, the purge, the checks."""

from __future__ import annotations

import json
import time

import pytest

from tests.live.conftest import RunningLab, wait_until

pytestmark = pytest.mark.live


def check(lab: RunningLab, name: str) -> dict[str, str]:
    """One check's result."""
    output = json.loads(lab.invoke("lab.check", "--json", check=False).stdout)
    return next(result for result in output["data"]["checks"] if result["check"] == name)


def test_what_exceeds_its_bound_is_reported_and_removed(lab: RunningLab) -> None:
    assert check(lab, "growth/web-01")["status"] == "ok"
    lab.out(
        "web-01",
        "sh",
        "-c",
        "yes 'a line of a log' | head -c 12000000 >/var/log/apt/term.log;"
        " head -c 100000 /dev/zero >/var/lib/mysql/core.123;"
        " mkdir -p /var/log/unknown; echo text >/var/log/unknown/new.log",
    )
    result = check(lab, "growth/web-01")
    assert result["status"] == "failed"
    assert "logs of packages: 11 MiB, the bound is 4 MiB" in result["got"]
    assert "core dumps" in result["detail"]
    assert "systemctl start lab-purge" in result["next"]
    lab.out("web-01", "systemctl", "start", "lab-purge.service")
    assert int(lab.out("web-01", "stat", "-c", "%s", "/var/log/apt/term.log")) <= 4 * 2**20 / 8
    assert not lab.run("web-01", "test", "-e", "/var/lib/mysql/core.123").ok
    left = check(lab, "growth/web-01")
    assert left["status"] == "warning"
    assert "/var/log/unknown/new.log" in left["got"]
    lab.out("web-01", "rm", "-r", "/var/log/unknown", "/var/log/apt/term.log")
    assert check(lab, "growth/web-01")["status"] == "ok"


def test_requests_are_logged_to_the_journal_and_health_checks_are_not(lab: RunningLab) -> None:
    mark, since = f"mark{time.time_ns()}", f"@{int(time.time())}"
    for _ in range(4):  # not of static files, which the balancer caches
        lab.get(f"/version?{mark}")

    def lines(machine: str) -> list[str]:
        words = ("journalctl", "-q", "-o", "cat", "-u", "nginx", f"--since={since}")
        return lab.out(machine, *words).splitlines()

    def logged() -> list[str]:
        return [line for machine in ("web-01", "web-02") for line in lines(machine)]

    wait_until(lambda: sum(mark in line for line in logged()) == 4, "four lines in the journals")
    time.sleep(2)  # several health checks
    assert not [line for line in logged() if "/healthz" in line]
    assert not lab.run("web-01", "test", "-s", "/var/log/nginx/access.log").ok


def test_old_binary_logs_are_purged(lab: RunningLab) -> None:
    for _ in range(3):
        lab.sql("web-01", "FLUSH BINARY LOGS")
    before = lab.sql("web-01", "SHOW BINARY LOGS").splitlines()
    entry = {"what": "binary logs", "paths": [], "limit": 1, "purge": "binlogs"}
    lab.out("web-01", "tee", "/tmp/growth.json", input=json.dumps([entry]))
    program = "provision.services.growth.agent.purge"
    code = "/usr/local/lib/foobar-lab/growth"
    lab.out("web-01", "sh", "-c", f"cd {code} && python3 -B -m {program} /tmp/growth.json")
    after = lab.sql("web-01", "SHOW BINARY LOGS").splitlines()
    assert len(before) >= 4
    assert after == [before[-1]] or len(after) == 1
    wait_until(
        lambda: "Yes" in lab.sql("web-02", "SHOW REPLICA STATUS"), "the replica to follow on"
    )
