"""Services that a signal or systemd's freezer has suspended."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

import pytest

from provision.checks.machines import judge_service
from provision.engine.agent import suspension
from provision.engine.agent.process import ProcessResult
from provision.engine.agent.services import ServiceState
from provision.engine.agent.suspension import parse_stat, suspended_processes
from provision.engine.resources import Service
from tests.live.conftest import wait_until

CGROUP = "0::/system.slice/nginx.service\n"
STOPPED = ServiceState("active", "enabled", suspended="process 7 (nginx) was stopped by a signal")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("297 (haproxy) T 1 297 297 0 -1", ("haproxy", "T")),
        ("297 (a (b) c) S 1 297 297 0 -1", ("a (b) c", "S")),
        ("297 (gdb me) t 1 297 297 0 -1", ("gdb me", "t")),
    ],
)
def test_state_of_a_process(text: str, expected: tuple[str, str]) -> None:
    assert parse_stat(text) == expected


def test_a_stopped_process_is_found_by_its_service(monkeypatch: pytest.MonkeyPatch) -> None:
    read = suspension._read
    monkeypatch.setattr(
        suspension, "_read", lambda path: CGROUP if path.endswith("/cgroup") else read(path)
    )
    with subprocess.Popen(["sleep", "60"]) as process:
        mark = f"{process.pid} (sleep)"

        def found() -> bool:
            return mark in suspended_processes().get("nginx.service", "")

        try:
            assert not found()
            os.kill(process.pid, signal.SIGSTOP)
            wait_until(found, "the process is stopped", 5)
            os.kill(process.pid, signal.SIGCONT)
            wait_until(lambda: not found(), "the process continues", 5)
        finally:
            process.kill()


def test_a_frozen_control_group() -> None:
    got = suspension.suspension("nginx.service", {"FreezerState": "frozen"}, {})
    assert got == "systemd's freezer holds it"
    assert not suspension.suspension("nginx.service", {"FreezerState": "running"}, {})
    assert not suspension.suspension("nginx.service", {}, {"ssh.service": "process 1"})


def test_a_suspended_service_is_a_difference_and_is_resumed() -> None:
    service = Service("nginx.service")
    [difference] = service.differences(STOPPED)
    assert (difference.key, difference.after) == ("state", "active")
    assert difference.before == "suspended: process 7 (nginx) was stopped by a signal"
    [action] = service.actions(STOPPED)
    assert action.args["run"] == "resume"


def test_a_service_that_must_not_run_is_stopped_although_it_is_suspended() -> None:
    [action] = Service("nginx.service", running=False).actions(STOPPED)
    assert action.args["run"] == "stop"


def test_the_check_names_the_process() -> None:
    verdict = judge_service("nginx", STOPPED)
    assert not verdict.ok
    assert verdict.cause == "nginx is suspended: process 7 (nginx) was stopped by a signal"
    assert verdict.hint == "invoke lab.up"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("frozen\n", [["thaw", "nginx.service"], ["kill", "--signal=SIGCONT", "nginx.service"]]),
        ("running\n", [["kill", "--signal=SIGCONT", "nginx.service"]]),
        ("\n", [["kill", "--signal=SIGCONT", "nginx.service"]]),
    ],
)
def test_resuming(monkeypatch: pytest.MonkeyPatch, state: str, expected: list[list[str]]) -> None:
    called: list[Any] = []
    shown = ProcessResult(0, state, "")
    monkeypatch.setattr(suspension, "run", lambda _: shown)
    monkeypatch.setattr(suspension, "must", lambda argv: called.append(argv[1:]))
    suspension.resume("nginx.service")
    assert called == expected
