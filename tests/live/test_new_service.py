"""A service that is added by one folder, one template folder and one keyword is booted for real."""

from __future__ import annotations

import os
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import json_schema
from tests.live.conftest import INVOKE, PREFIX, assert_no_traceback, network_option
from tests.new_service import TOPOLOGY, add_status, copy_checkout

NAME = f"{PREFIX}status"
CHECKS = ("service/web-01/lab-status", "status/web-01")

Invoke = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def invoke(tmp_path: Path) -> Iterator[Invoke]:
    """Runs tasks in a copy of the checkout that has the new service; removes its lab afterwards."""
    checkout = copy_checkout(tmp_path)
    add_status(checkout)

    def run(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        end = words.index("--") if "--" in words else len(words)
        result = subprocess.run(
            [INVOKE, *words[:end], "--lab", NAME, *words[end:]],
            cwd=checkout,
            text=True,
            capture_output=True,
            timeout=400,
            stdin=subprocess.DEVNULL,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            check=False,
        )
        assert_no_traceback(result.stdout + result.stderr)
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result

    yield run
    run("lab.destroy", "--yes", check=False)


def verdicts(invoke: Invoke) -> dict[str, bool]:
    """The checks of the new service."""
    document = json_schema.document(invoke("lab.check", "--json", check=False).stdout)
    rows = document["data"]["checks"]
    return {row["check"]: row["status"] == "ok" for row in rows if row["check"] in CHECKS}


def test_a_new_service_is_configured_checked_and_restarted(invoke: Invoke) -> None:
    invoke("lab.up", "--topology", TOPOLOGY, *network_option(NAME))
    assert verdicts(invoke) == dict.fromkeys(CHECKS, True)
    status = json_schema.document(invoke("lab.status", "--json").stdout)["data"]
    (machine,) = status["machines"]
    assert machine["services"]["lab-status"] == "active"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{machine['address']}:8088/", timeout=5) as page:
        assert b"web-01 is up" in page.read()
    assert "no changes" in invoke("lab.plan").stdout

    invoke("lab.ssh", "web-01", "--", "sudo", "systemctl", "stop", "lab-status")
    assert verdicts(invoke) == dict.fromkeys(CHECKS, False)
    invoke("lab.up")
    assert verdicts(invoke) == dict.fromkeys(CHECKS, True)
    invoke("lab.restart", "lab-status")
    assert verdicts(invoke) == dict.fromkeys(CHECKS, True)
