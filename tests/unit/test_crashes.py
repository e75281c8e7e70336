"""A service that crashes at every start is detected, and its own last words are quoted."""

from __future__ import annotations

import pytest

from provision.engine.agent import crashes
from provision.engine.agent.crashes import CrashLoopError, cause, crash_watch
from provision.engine.agent.http import wait_until_ready
from provision.engine.agent.process import ProcessResult
from provision.engine.agent.protocol import HttpRequest, Readiness

GUNICORN = """\
[2026-11-30 04:18:20 +0000] [512] [INFO] Starting gunicorn 23.0.0
[2026-11-30 04:18:20 +0000] [515] [INFO] Booting worker with pid: 515
[2026-11-30 04:18:21 +0000] [515] [ERROR] Exception in worker process
Traceback (most recent call last):
  File "/usr/lib/python3/dist-packages/gunicorn/arbiter.py", line 608, in spawn_worker
    worker.init_process()
  File "/srv/foobar/releases/2/app.py", line 3, in <module>
    import requests
ModuleNotFoundError: No module named 'requests'
[2026-11-30 04:18:21 +0000] [515] [INFO] Worker exiting (pid: 515)
[2026-11-30 04:18:21 +0000] [512] [ERROR] Worker (pid:515) exited with code 3
[2026-11-30 04:18:21 +0000] [512] [ERROR] Shutting down: Master
[2026-11-30 04:18:21 +0000] [512] [ERROR] Reason: Worker failed to boot.
"""
NO_ATTRIBUTE = """\
[2026-11-30 04:18:20 +0000] [512] [INFO] Starting gunicorn 23.0.0
Failed to find attribute 'application' in 'app'.
[2026-11-30 04:18:21 +0000] [515] [INFO] Worker exiting (pid: 515)
[2026-11-30 04:18:21 +0000] [512] [ERROR] Reason: App failed to load.
"""


def test_the_exception_of_the_last_traceback_is_the_cause() -> None:
    why, lines = cause(GUNICORN.splitlines())
    assert why == "ModuleNotFoundError: No module named 'requests'"
    assert lines[0].startswith("Traceback")
    assert lines[-2:] == ["    import requests", why]


def test_the_exception_of_a_worker_is_the_cause_not_that_of_gunicorn() -> None:
    halted = [
        crashes.TRACEBACK,
        '  File "arbiter.py", line 525, in reap_workers',
        "gunicorn.errors.HaltServer: <HaltServer 'Worker failed to boot.' 3>",
    ]
    worker = [crashes.TRACEBACK, "    import requests", "ModuleNotFoundError: No module named 'x'"]
    assert crashes.cause([*worker, *halted]) == (worker[-1], worker)
    assert crashes.cause(["no attribute", *halted]) == ("no attribute", ["no attribute"])
    assert crashes.cause(halted)[0] == halted[-1]


def test_without_a_traceback_the_last_telling_line_is_the_cause() -> None:
    assert cause(NO_ATTRIBUTE.splitlines())[0] == "Failed to find attribute 'application' in 'app'."
    assert cause([]) == ("", [])
    assert cause(["[INFO] only"])[0] == "[INFO] only"


@pytest.mark.parametrize(
    ("state", "restarts", "message"),
    [
        ("activating", 2, "x.service crashes at every start: ModuleNotFoundError"),
        ("active", 3, "x.service crashes at every start: ModuleNotFoundError"),
        ("failed", 0, r"x.service has failed \(exit-code\): ModuleNotFoundError"),
        ("activating", 1, ""),
        ("active", 0, ""),
    ],
)
def test_a_crash_loop_ends_the_wait(
    monkeypatch: pytest.MonkeyPatch, state: str, restarts: int, message: str
) -> None:
    def run(argv: list[str], timeout: float = 0) -> ProcessResult:
        show = f"ActiveState={state}\nNRestarts={restarts}\nResult=exit-code\n"
        return ProcessResult(0, GUNICORN if argv[0] == "journalctl" else show, "")

    monkeypatch.setattr(crashes, "run", run)
    monkeypatch.setattr(crashes, "INTERVAL", 0.0)
    watch = crash_watch("x.service", 0.0)
    if message:
        readiness = Readiness("x", 60.0, HttpRequest("/", socket="/nothing"))
        with pytest.raises(CrashLoopError, match=message) as caught:
            wait_until_ready(readiness, lambda _: None, watch)
        assert "import requests" in caught.value.output
    else:
        watch()
