"""Names that were typed wrong, and commands from other directories of the checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from provision import providers, topology
from provision.checks.observation import Observation
from provision.classroom import definition
from provision.commands import completion, db
from provision.core.classroom import Class, Team
from provision.core.errors import LabError, UsageError
from provision.core.exit_status import ExitStatus
from provision.core.lab import ROOT
from provision.drills import catalogue, skeleton
from provision.drills.course import Course, load_course
from provision.operations import offline, session
from provision.operations.bundle import options
from provision.operations.bundle.hosts import RELEASES
from provision.providers import snapshot_names
from provision.providers.boxes import build as boxes
from provision.services.app import collect
from provision.services.app.application import parse_environment
from provision.services.haproxy import traffic
from provision.teaching import explain, faults
from tests.unit.samples import context

HERE = context("distributed")
FLEET: Any = None
DRILL = "site-link-removed"
DRILLS = catalogue.FOLDER
ALL_DRILLS = catalogue.load_all([catalogue.find(DRILL)])
CLASS = Class("c", "simple", (Team("red", "lab-red", "10.60.1.0/24", "code", "1"),), "code")


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: HERE.lab.machine("wbe-01"), "web-01"),
        (lambda: HERE.lab.machine("lb01"), "lb-01"),
        (lambda: topology.find("distribted", ROOT), "distributed"),
        (lambda: topology.find("secure", ROOT), "secured"),
        (lambda: traffic.require_server(HERE, "web01"), "web-01"),
        (lambda: providers.provider("lcx"), "lxc"),
        (lambda: HERE.lab.machine("LB01"), "lb-01"),
        (lambda: traffic.mode(HERE, FLEET, "active-pasive"), "active-passive"),
        (lambda: traffic.algorithm(HERE, FLEET, "leastcon"), "leastconn"),
        (lambda: faults.components(HERE, "haproxie"), "haproxy"),
        (lambda: explain.text(HERE, "replicaton", Observation({})), "replication"),
        (lambda: catalogue.find("site-link-remved"), "site-link-removed"),
        (lambda: catalogue.find(f"{DRILLS}/web/site-link-remved.md"), f"{DRILLS}/web/{DRILL}.md"),
        (lambda: catalogue.require_layer("databse"), "database"),
        (lambda: catalogue.matching(ALL_DRILLS, topology="securd"), "secured"),
        (lambda: skeleton.write("new", "netwrok"), "network"),
        (lambda: offline.chosen("secred", "default", ROOT), "secured"),
        (lambda: options.listed("trixi", tuple(RELEASES), "Debian release"), "trixie"),
        (lambda: boxes.find_architecture("amd46"), "amd64"),
        (lambda: boxes.build("libvrt", print), "libvirt"),
        (lambda: CLASS.team("redd"), "red"),
        (lambda: Course("c", (), {"red": "1"}).seed("rde"), "red"),
        (lambda: snapshot_names.check_exists("befor", ["before"]), "before"),
        (lambda: completion.completion.body.__wrapped__(None, "bsh"), "bash"),
        (lambda: db.autopromote.body.__wrapped__(None, "onn"), "on"),
        (lambda: load_course(ROOT / "READM.md"), f"{ROOT}/README.md"),
        (lambda: definition.load(ROOT / "READM.md"), f"{ROOT}/README.md"),
        (lambda: topology.inventory(ROOT / "READM.md"), f"{ROOT}/README.md"),
        (lambda: topology.find(f"{ROOT}/configs/topologies/sipmle.yml", ROOT), "simple.yml"),
        (lambda: collect.collect(ROOT / "provison"), f"{ROOT}/provision"),
        (lambda: parse_environment((), f"{ROOT}/LICENS"), f"{ROOT}/LICENSE"),
    ],
)
def test_a_similar_name_is_suggested(call: object, what: str) -> None:
    assert callable(call)
    with pytest.raises(LabError) as raised:
        call()
    message = str(raised.value)
    assert "did you mean " in message
    assert f"{what}?" in message
    assert raised.value.status == ExitStatus.USAGE


def test_a_similar_lab_is_suggested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "lab_names", lambda: ("default", "red"))
    for name in ("red", "blue"):
        session.refuse_misspelled(name)
    with pytest.raises(UsageError, match="there is no lab rde; did you mean red"):
        session.refuse_misspelled("rde")


def test_every_refused_word_gets_a_suggestion() -> None:
    """Such an error is made by `errors.not_among` only, which suggests the most similar choice."""
    files = (ROOT / "provision").rglob("*.py")
    holders = {path.name for path in files if "choose from {" in path.read_text(encoding="utf-8")}
    assert holders == {"errors.py", "page.py"}  # a page has no misspelt words


@pytest.mark.parametrize("folder", ["provision", "provision/core", "configs/topologies", "tests"])
def test_tasks_work_in_every_directory_of_the_checkout(folder: str) -> None:
    argv = [str(Path(sys.executable).with_name("invoke")), "lab.completion", "bash"]
    done = subprocess.run(argv, cwd=ROOT / folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "lab.status" in done.stdout
