"""A machine whose power was cut is not called halted."""

from __future__ import annotations

from pathlib import Path

from provision import checks
from provision.checks.graph import evaluate, summary
from provision.checks.observation import Observation
from provision.operations import power_cuts
from tests.unit.samples import context

STATES = {"lb-01": "running", "web-01": "halted", "web-02": "halted"}


def test_a_power_cut_is_told_from_a_shutdown_until_the_machine_starts(tmp_path: Path) -> None:
    assert power_cuts.with_killed(tmp_path, STATES) == STATES
    power_cuts.record(tmp_path, "web-01")
    power_cuts.record(tmp_path, "lb-01")  # it was started by other means
    power_cuts.record(tmp_path, "web-01")
    expected = {"lb-01": "running", "web-01": "killed", "web-02": "halted"}
    assert power_cuts.with_killed(tmp_path, STATES) == expected
    power_cuts.forget(tmp_path, ["web-01", "web-02"])
    assert power_cuts.with_killed(tmp_path, STATES) == STATES


def test_nothing_is_written_when_nothing_was_recorded(tmp_path: Path) -> None:
    power_cuts.forget(tmp_path, ["web-01"])
    assert list(tmp_path.iterdir()) == []


def test_the_root_cause_names_the_power_cut() -> None:
    lab = context()
    judged = evaluate(checks.checks(lab), Observation({**STATES, "web-01": "killed"}))
    lines = [line for line in summary(judged) if line.startswith("root cause: web-0")]
    assert lines[0].startswith("root cause: web-01: its power was cut (")
    assert lines[1].startswith("root cause: web-02: the machine is halted (")
