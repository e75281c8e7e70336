"""Every row of the table of single points of failure, on real machines."""

from __future__ import annotations

import json
import signal

import pytest

from tests.live.conftest import RunningLab, wait_until

pytestmark = pytest.mark.live


def lost(lab: RunningLab, *words: str) -> dict[str, list[str]]:
    """By machine and component, what a visitor could not do while it was down."""
    rows = json.loads(lab.invoke("lab.spof", *words, "--json").stdout)
    assert all(row["reads"]["asked"] and row["writes"]["asked"] for row in rows)
    return {f"{row['machine']}/{row['component']}": row["lost"] for row in rows}


def test_scaled_fails_nowhere(scaled: RunningLab) -> None:
    primary = scaled.session().state.primary
    found = lost(scaled, "--seconds", "1")
    parts = {"lb": ("haproxy", "dns"), "web": ("nginx",), "app": ("app",), "db": ("mysql",)}
    expected = {
        f"{kind}-{number:02}/{part}"
        for kind, its in parts.items()
        for number in (1, 2)
        for part in (*its, "machine")
    }
    assert set(found) == expected
    assert {name: each for name, each in found.items() if each} == {}
    # What was promoted meanwhile has handed the writes back.
    assert scaled.session().state.primary == primary
    assert "0 changed" in scaled.up().stdout


def test_distributed_fails_at_the_balancer_and_for_writes(lab: RunningLab) -> None:
    assert lost(lab) == {
        "lb-01/haproxy": ["reads", "writes"],
        "web-01/nginx": [],
        "web-02/nginx": [],
        "web-01/app": [],
        "web-02/app": [],
        "web-01/mysql": ["writes"],
        "web-02/mysql": [],
        "lb-01/dns": ["names"],
        "lb-01/machine": ["reads", "writes", "names"],
        "web-01/machine": ["writes"],
        "web-02/machine": [],
    }
    assert lab.invoke("lab.check").returncode == 0
    assert "0 changed" in lab.up().stdout


def test_ctrl_c_puts_everything_back(lab: RunningLab) -> None:
    command = lab.start("lab.spof", "mysql", "--seconds", "20")
    command.until("taking mysql down")
    command.signal(signal.SIGINT)
    assert command.end() == 130
    assert "putting mysql back" in command.said
    # It may still have been on its way down when it was told to come back.
    active = ("systemctl", "is-active", "--quiet", "mysql")
    wait_until(lambda: lab.run("web-01", *active).ok, "mysql runs again")


def test_bad_input(lab: RunningLab) -> None:
    done = lab.invoke("lab.spof", "web-09", check=False)
    assert (done.returncode, "is no component" in done.stderr) == (2, True)
    done = lab.invoke("lab.spof", "--seconds", "0", check=False)
    assert (done.returncode, "from 1 to 30" in done.stderr) == (2, True)
