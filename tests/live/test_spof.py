"""lab.spof on real machines: the single points of failure of each topology."""

from __future__ import annotations

import signal

import pytest

from tests.live.conftest import RunningLab, wait_until

pytestmark = pytest.mark.live


def lost(lab: RunningLab, *words: str) -> dict[str, list[str]]:
    """The impact of each component's failure, by machine and component."""
    rows = lab.json("lab.spof", *words)["components"]
    assert all(row["reads"]["requests"] and row["writes"]["requests"] for row in rows), rows
    return {f"{row['machine']}/{row['component']}": row["lost"] for row in rows}


def test_scaled_has_no_single_point_of_failure(scaled: RunningLab) -> None:
    primary = scaled.session().state.primary
    unavailable = lost(scaled, "--seconds", "1")
    parts = {"lb": ("haproxy", "dns"), "web": ("nginx",), "app": ("app",), "db": ("mysql",)}
    expected = {
        f"{kind}-{number:02}/{part}"
        for kind, its in parts.items()
        for number in (1, 2)
        for part in (*its, "machine")
    }
    assert set(unavailable) == expected
    assert not any(unavailable.values()), unavailable
    # After each automatic failover the old primary was promoted again.
    assert scaled.session().state.primary == primary
    assert "0 changed" in scaled.up().stdout


def test_distributed_fails_without_the_balancer_and_for_writes_without_the_primary(
    lab: RunningLab,
) -> None:
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


def test_ctrl_c_restores_the_component(lab: RunningLab) -> None:
    command = lab.start("lab.spof", "mysql", "--seconds", "20")
    command.wait_for_output("taking mysql down")
    command.signal(signal.SIGINT)
    assert command.wait() == 130
    assert "restoring mysql" in command.output
    # mysqld may still have been shutting down when the start was requested.
    active = ("systemctl", "is-active", "--quiet", "mysql")
    wait_until(lambda: lab.run("web-01", *active).ok, "mysql to be active")


def test_bad_input(lab: RunningLab) -> None:
    result = lab.invoke("lab.spof", "web-09", check=False)
    assert (result.returncode, "is not a component" in result.stderr) == (2, True)
    result = lab.invoke("lab.spof", "--seconds", "0", check=False)
    assert (result.returncode, "from 1 to 30" in result.stderr) == (2, True)
