"""The commands around a drill, as a learner and a teacher use them."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from provision.drills import catalogue
from tests.live.conftest import RunningLab, wait_until
from tests.live.drills.conftest import GetLab

DRILL = "site-link-removed"


@pytest.fixture
def lab(drill_lab: GetLab) -> RunningLab:
    """A lab without a running drill."""
    running = drill_lab("distributed")
    running.invoke("drill.finish", check=False)
    return running


def test_from_start_to_finish(lab: RunningLab) -> None:
    started = lab.json("drill.start", DRILL, "--seed", "1")
    machine = re.search(r"web-0\d", lab.json("drill.hint")["text"])
    assert started["drill_run"]["outcome"] == "running"
    assert machine is None or machine.group() in ("web-01", "web-02")

    second = lab.invoke("drill.start", "wrong-backend-port", check=False)
    assert second.returncode == 2
    assert f"drill {DRILL} is running" in second.stderr
    refused = lab.invoke("lab.up", check=False)
    assert refused.returncode == 2
    assert "may undo the fault" in refused.stderr
    assert "is counted" in lab.invoke("lab.check", check=False).stderr

    failed = lab.json("drill.check", check=False)
    assert not failed["passed"]
    assert failed["held_count"] < failed["proof_count"]

    watching = lab.start("drill.watch", "--seconds", "300")
    watching.wait_for_output("not yet")
    lab.invoke("drill.solve")
    watching.wait_for_output("solved", 300)
    assert watching.wait() == 0

    status = lab.json("drill.status")
    assert status["drill_run"]["outcome"] == "solved"
    assert status["drill_run"]["assisted"]
    assert all(proof["held"] for proof in status["proofs"])

    ended = lab.json("drill.finish")
    assert ended["drill_run"]["hints"] == 1
    assert ended["drill_run"]["counted_commands"] == {"lab.check": 1}
    assert lab.json("lab.check")["counts"]["failed"] == 0
    assert "## Timeline" in lab.json("postmortem.new")["text"]
    assert lab.invoke("drill.report", "--csv").stdout.count(DRILL) >= 1
    assert "<table>" in lab.invoke("drill.report", "--html").stdout
    assert lab.invoke("drill.status", check=False).returncode == 2


def test_a_reset_causes_the_same_fault_again(lab: RunningLab) -> None:
    lab.invoke("drill.start", DRILL, "--seed", "2")
    lab.invoke("drill.solve")
    begun = time.monotonic()
    again = lab.json("drill.reset")
    print(f"drill.reset took {time.monotonic() - begun:.1f} s")
    assert again["drill_run"]["seed"] == "2"
    assert not lab.json("drill.check", check=False)["passed"]
    assert lab.json("drill.give-up")["drill_run"]["outcome"] == "given up"


def test_an_exam_refuses_what_gives_the_fault_away(lab: RunningLab) -> None:
    lab.invoke("drill.start", DRILL, "--exam", "--seed", "1")
    for command in (["lab.check"], ["lab.plan"], ["lab.up", "--yes"], ["drill.solution"]):
        result = lab.invoke(*command, check=False)
        assert result.returncode == 2, command
        assert "as an exam" in result.stderr
    lab.invoke("drill.finish")


def test_a_lab_that_is_not_healthy_is_refused(lab: RunningLab) -> None:
    lab.out("web-02", "systemctl", "stop", "nginx")
    result = lab.invoke("drill.start", DRILL, check=False)
    assert result.returncode == 1
    assert "not healthy before the drill: web-02: nginx is stopped" in result.stderr
    lab.out("web-02", "systemctl", "start", "nginx")
    lab.invoke("lab.halt", "web-02")
    result = lab.invoke("drill.start", DRILL, check=False)
    assert "web-02 is halted" in result.stderr
    lab.up()


def test_a_drill_of_another_topology_is_refused(lab: RunningLab, tmp_path: Path) -> None:
    text = catalogue.find(DRILL).read_text(encoding="utf-8")
    other = tmp_path / f"{DRILL}.md"
    other.write_text(text.replace("[distributed, secured]", "[scaled, secured]"))
    result = lab.invoke("drill.start", str(other), check=False)
    assert result.returncode == 2
    assert f"drill {DRILL} needs topology scaled or secured" in result.stderr
    assert f"invoke lab.up --lab {lab.name} --topology scaled" in result.stderr


def test_a_killed_start_is_repaired(lab: RunningLab) -> None:
    starting = lab.start("drill.start", DRILL, "--seed", "1")
    starting.wait_for_output("preparing the drill")
    starting.process.kill()
    starting.process.wait(30)
    result = lab.invoke("drill.check", check=False)
    assert result.returncode == 2 or not result.stdout.startswith("solved")
    lab.invoke("drill.reset")
    assert lab.json("drill.status")["drill_run"]["drill"] == DRILL
    lab.invoke("drill.finish")


def test_load_says_whether_a_request_failed(lab: RunningLab) -> None:
    wait_until(lambda: lab.get("/").status_code == 200, "the site")
    good = lab.json("lab.load", "--rate", "20", "--seconds", "3", "--writes", "20")
    assert good["failed"] == 0
    assert good["requests"] > 20
    assert set(good["servers"]) == {"web-01", "web-02"}
    lab.out("lb-01", "systemctl", "stop", "haproxy")
    try:
        bad = lab.invoke("lab.load", "--rate", "5", "--seconds", "2", check=False)
        assert bad.returncode == 1
        assert "no response" in bad.stdout
    finally:
        lab.out("lb-01", "systemctl", "start", "haproxy")
