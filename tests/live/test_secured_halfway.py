"""A change of topology that fails half way is recorded as such, and goes on or back."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from provision.core.lab import ROOT
from provision.core.state import load
from tests.live.conftest import RunningLab

pytestmark = pytest.mark.live

SOURCES = "/etc/apt/sources.list.d/debian.sources"


def transition(lab: RunningLab) -> tuple[str, str]:
    """The topology that was reached, and the one that the lab is on the way to."""
    status = lab.json("lab.status")
    return status["topology"], status["target"]


def test_failing_half_way_leaves_the_truth(
    other_lab: Callable[..., RunningLab], tmp_path: Path
) -> None:
    lab = other_lab("halfway")
    # A new lab that is killed has reached nothing yet.
    first = lab.start("lab.up")
    first.wait_for_output("lb-01")
    first.signal(signal.SIGKILL, group=True)
    first.process.wait(60)
    recorded = load(ROOT / ".lab" / lab.name)
    assert recorded is not None
    assert (recorded.topology, recorded.target) == ("distributed", "distributed")
    lab.up()
    assert transition(lab) == ("distributed", "")

    # A dead package source and an empty package pool: `secured` needs more packages.
    for machine in ("lb-01", "web-01", "web-02"):
        lab.out(machine, "sed", "-i", "s|^URIs:.*|URIs: http://127.0.0.1:9/debian|", SOURCES)
    pool = {"LAB_POOL": str(tmp_path), "LAB_OFFLINE": "1"}
    failed = lab.invoke("lab.up", "--topology", "secured", check=False, env=pool)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "is unreachable" in failed.stderr
    assert "the lab is distributed, on the way to secured" in failed.stderr
    assert transition(lab) == ("distributed", "secured")
    status = lab.invoke("lab.status")
    assert f"lab {lab.name} (distributed, on the way to secured, lxc)" in status.stdout
    assert "goes back" in status.stderr
    assert "on the way to secured" in lab.invoke("lab.check", check=False).stderr
    # The machines still serve as before.
    plain = requests.get(lab.url.replace("https:", "http:"), timeout=10, allow_redirects=False)
    assert plain.status_code == 200

    # Back, although the package source is still dead: nothing is needed from it. Like every
    # file that was changed by hand, the list of sources is restored.
    lab.up("--topology", "distributed")
    assert transition(lab) == ("distributed", "")
    assert "127.0.0.1" not in lab.out("lb-01", "cat", SOURCES)

    # Killed during the change: the next lab.up goes on without being told where to.
    change = lab.start("lab.up", "--topology", "secured")
    change.wait_for_output("installing")
    change.signal(signal.SIGKILL, group=True)
    change.process.wait(60)
    assert transition(lab) == ("distributed", "secured")
    lab.up()
    assert transition(lab) == ("secured", "")
    assert lab.get("/").url.startswith("https://")
