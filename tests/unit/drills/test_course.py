"""Courses: drills in order, time limits, a seed for each team, and all errors at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.core.errors import UsageError
from provision.drills.course import load_course
from provision.drills.source import DrillFileError


def course(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "course.yml"
    path.write_text(text)
    return path


def test_a_course(tmp_path: Path) -> None:
    loaded = load_course(
        course(
            tmp_path,
            "title: Friday\n"
            "teams: {red: 17, blue: x}\n"
            "drills: [site-link-removed, {id: site-link-removed, minutes: 3}]\n",
        )
    )
    assert loaded.title == "Friday"
    assert [item.minutes for item in loaded.items] == [10, 3]
    assert (loaded.seed("red"), loaded.seed("blue")) == ("17", "x")
    with pytest.raises(UsageError, match="did you mean red"):
        loaded.seed("rad")
    with pytest.raises(UsageError, match="name a team"):
        loaded.seed("")


def test_teams_without_seeds_are_their_own_seeds(tmp_path: Path) -> None:
    loaded = load_course(course(tmp_path, "teams: [red, blue]\ndrills: [site-link-removed]\n"))
    assert loaded.seed("red") != loaded.seed("blue")
    assert load_course(course(tmp_path, "drills: [site-link-removed]\n")).seed("") == "1"


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    broken = tmp_path / "broken.md"
    broken.write_text("---\nid: broken\nlevel: 7\n---\nstory\n")
    text = (
        "titel: x\ndrills: [site-link-remove, {minutes: 3}, {id: site-link-removed, minutes: 0},"
        f" {broken}]\nteams: 3\n"
    )
    with pytest.raises(DrillFileError) as caught:
        load_course(course(tmp_path, text))
    lines = caught.value.what
    for part in (
        "unknown key 'titel'",
        "did you mean site-link-removed",
        "missing key id",
        "expected an integer from 1 to 240",
        "broken.md:3: level",
        "teams: invalid value 3",
    ):
        assert part in lines


def test_a_course_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_course(tmp_path / "none.yml")
