"""The log of runs, and its views: status, report, post-mortem; what other commands may do."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import pytest

from provision.commands import drill_guard, show_drill
from provision.core.errors import LabError, UsageError
from provision.drills import events, lint, reports
from provision.drills.catalogue import FOLDER
from provision.drills.postmortem import post_mortem
from provision.drills.render import LabValues, render
from provision.drills.run import current, of_lab, require_current
from provision.drills.source import load

STARTING = {"drill": "site-link-removed", "seed": "7", "minutes": 10, "exam": False}


def record(directory: Path, *kinds: str, run: int = 1, **values: Any) -> None:
    """Append events; values belong to the first one."""
    for kind in kinds:
        more = {**STARTING, **values} if kind == "starting" else values
        events.append(directory, run, kind, **more)


def test_a_run_that_has_not_ended_is_the_current_one(tmp_path: Path) -> None:
    assert current(tmp_path) is None
    record(tmp_path, "starting", "started")
    run = require_current(tmp_path)
    assert (run.drill, run.seed, run.minutes, run.outcome) == (
        "site-link-removed",
        "7",
        10,
        "running",
    )
    record(tmp_path, "finished")
    assert current(tmp_path) is None
    with pytest.raises(UsageError, match="no drill is running"):
        require_current(tmp_path)


def test_an_interrupted_start_is_known(tmp_path: Path) -> None:
    record(tmp_path, "starting")
    with pytest.raises(UsageError, match="was interrupted") as caught:
        require_current(tmp_path)
    assert "drill.reset" in caught.value.hint
    assert not require_current(tmp_path, begun=False).begun
    record(tmp_path, "started", "resetting")
    assert not require_current(tmp_path, begun=False).begun, "an interrupted reset"


def test_a_line_that_was_not_written_completely_is_ignored(tmp_path: Path) -> None:
    record(tmp_path, "starting", "started")
    with events.path(tmp_path).open("a") as file:
        file.write('{"time": "2026-01-01T00:00:00+00:00", "run": 1, "kind": "fin')
    assert current(tmp_path) is not None
    record(tmp_path, "hint", number=0)
    assert [event.kind for event in events.read(tmp_path)] == ["starting", "started", "hint"]
    assert events.path(tmp_path).stat().st_mode & 0o777 == 0o600


def test_an_event_is_in_the_log_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events.append(tmp_path, 1, "starting")
    before = events.path(tmp_path).read_bytes()
    write = os.write
    monkeypatch.setattr("os.write", lambda number, line: write(number, line[:9]))  # a full disk
    with pytest.raises(LabError, match="cannot be written: No space left on device"):
        events.append(tmp_path, 1, "hint")
    assert events.path(tmp_path).read_bytes() == before


@pytest.mark.parametrize(
    ("kinds", "outcome", "assisted"),
    [
        (["solved", "finished"], "solved", False),
        (["solution", "solved", "finished"], "solved", True),
        (["solve"], "running", True),
        (["finished"], "unsolved", False),
        (["given-up"], "given up", False),
        (["failed"], "failed", False),
        (["solved", "resetting", "started"], "running", False),
    ],
)
def test_outcomes(tmp_path: Path, kinds: list[str], outcome: str, assisted: bool) -> None:
    record(tmp_path, "starting", "started", *kinds)
    run = of_lab(tmp_path)[0]
    assert (run.outcome, run.assisted) == (outcome, assisted)


def test_hints_checks_and_shortcuts_are_counted(tmp_path: Path) -> None:
    record(tmp_path, "starting", "started")
    record(tmp_path, "hint", number=0)
    record(tmp_path, "check", held=1, total=2, shortcuts=["lab.up restored the lab's files"])
    record(tmp_path, "check", held=2, total=2, shortcuts=[])
    record(tmp_path, "lab.check")
    run = of_lab(tmp_path)[0]
    assert (run.hints, run.checks, run.count("lab.check")) == (1, 2, 1)
    assert run.shortcuts == ("lab.up restored the lab's files",)
    text = show_drill.summary(run)
    assert "1 hint, 2 checks, lab.check used 1 ×, forbidden: lab.up restored" in text


def test_time_as_minutes_and_seconds() -> None:
    assert show_drill.duration(247.4) == "4:07"
    assert show_drill.duration(-61) == "-1:01"


# --- what other commands may do -------------------------------------------------------------------


def lab_folder(root: Path, **values: Any) -> Path:
    directory = root / ".lab" / "two"
    record(directory, "starting", "started", **values)
    return directory


@pytest.mark.parametrize("kind", ["lab.up", "lab.restart"])
def test_commands_that_would_undo_the_fault_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    directory = lab_folder(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(UsageError, match="site-link-removed is running") as caught:
        drill_guard.before(kind, "two", {"yes": False}, tmp_path)
    assert "--yes" in caught.value.hint
    assert of_lab(directory)[0].count(kind) == 0
    drill_guard.before(kind, "two", {"yes": True}, tmp_path)
    assert of_lab(directory)[0].count(kind) == 1


@pytest.mark.parametrize("kind", ["lab.check", "lab.plan"])
def test_commands_that_tell_much_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    directory = lab_folder(tmp_path)
    drill_guard.before(kind, "two", {}, tmp_path)
    assert f"this use of {kind} is counted" in capsys.readouterr().err
    assert of_lab(directory)[0].count(kind) == 1


@pytest.mark.parametrize(
    "kind", ["lab.up", "lab.restart", "lab.check", "lab.plan", "drill.solution", "drill.solve"]
)
def test_an_exam_refuses_them(tmp_path: Path, kind: str) -> None:
    directory = lab_folder(tmp_path, exam=True)
    with pytest.raises(UsageError, match="runs as an exam"):
        drill_guard.before(kind, "two", {"yes": True}, tmp_path)
    assert of_lab(directory)[0].count(kind) == 0


def test_without_a_drill_nothing_is_asked_or_counted(tmp_path: Path) -> None:
    drill_guard.before("lab.up", "two", {}, tmp_path)
    directory = lab_folder(tmp_path)
    drill_guard.before("lab.status", "two", {}, tmp_path)
    record(directory, "finished")
    drill_guard.before("lab.up", "two", {}, tmp_path)
    drill_guard.before("lab.check", "../two", {}, tmp_path)
    assert {event.kind for event in events.read(directory)} == {"starting", "started", "finished"}


# --- reports --------------------------------------------------------------------------------------


def test_reports(tmp_path: Path) -> None:
    record(tmp_path, "starting", "started", team="=red<b>")
    record(tmp_path, "commands", machines={"web-01": ["sudo nginx -T", "echo '<b>'"]})
    record(tmp_path, "finished")
    values = [show_drill.run_values(run, with_commands=True) for run in of_lab(tmp_path)]
    rows = list(csv.DictReader(io.StringIO(reports.as_csv(values))))
    assert rows[0]["drill"] == "site-link-removed"
    assert rows[0]["team"] == "'=red<b>", "no formula for a spreadsheet"
    assert rows[0]["commands"] == "web-01: sudo nginx -T\nweb-01: echo '<b>'"
    assert set(rows[0]) == set(reports.COLUMNS)
    assert set(reports.COLUMNS) == set(values[0])
    page = reports.as_html(values, "Drills of <lab>")
    assert "<b>" not in page
    assert "Drills of &lt;lab&gt;" in page


def test_a_post_mortem(tmp_path: Path) -> None:
    record(tmp_path, "starting", "started")
    record(tmp_path, "hint", number=1)
    record(tmp_path, "check", held=1, total=3, shortcuts=["the firewall of web-01 is off"])
    record(tmp_path, "commands", machines={"web-01": ["sudo nginx -T"]})
    record(tmp_path, "solved", "finished")
    lab = lint.sample_lab("distributed")
    drill = load(FOLDER / "web" / "site-link-removed.md")
    text = post_mortem(of_lab(tmp_path)[0], render(drill, LabValues(lab, "web-01"), "7"))
    for part in (
        "# Post-mortem:",
        "## Summary",
        "## Timeline",
        "## Root cause",
        "## Resolution",
        "## Corrective measures",
        "hint 2 was read",
        "checked: 1 of 3 proofs hold; does not count: the firewall of web-01 is off",
        "sudo nginx -T",
        "all proofs held",
    ):
        assert part in text
