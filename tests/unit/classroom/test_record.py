"""The record of a class: private, atomic, complete; keys of teams."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from provision.core import classroom
from provision.core.classroom import Class, Team
from provision.core.errors import LabError, UsageError
from provision.core.limits import Limits
from provision.core.secrets import Secrets

RED = Team("red", "red", "10.60.1.0/24", "K7QF3-MXPZ2", "red")
BLUE = Team("blue", "blue", "10.60.2.0/24", "AAAAA-BBBBB", "17")
CLASS = Class("Friday", "distributed", (RED, BLUE), "TTTTT-TTTTT", limits=Limits(memory=2048))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    assert classroom.load(tmp_path) is None
    classroom.save(CLASS, tmp_path)
    assert classroom.load(tmp_path) == CLASS
    assert CLASS.of_lab("blue") == BLUE
    assert CLASS.of_lab("default") is None
    assert CLASS.without(("red",)).teams == (BLUE,)


def test_the_record_is_private(tmp_path: Path) -> None:
    classroom.save(CLASS, tmp_path)
    path = classroom.folder(tmp_path) / classroom.FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o640)
    with pytest.raises(LabError, match="other users can access"):
        classroom.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"teams": [{"name": "red"}]},
        {"teams": [{**RED.__dict__, "lab": "../red"}]},
        {"teams": [{**RED.__dict__, "network": "here"}]},
        {"limits": {"memory": "much"}},
        {"limits": {"unknown": 1}},
        {"another": "key"},
        {"title": 3},
    ],
)
def test_a_damaged_record_is_one_error(tmp_path: Path, change: dict[str, object]) -> None:
    classroom.save(CLASS, tmp_path)
    path = classroom.folder(tmp_path) / classroom.FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(LabError, match="is damaged: "):
        classroom.load(tmp_path)
    path.write_text("{")
    with pytest.raises(LabError, match="is damaged: "):
        classroom.load(tmp_path)


def test_an_unknown_team_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown team 'rad'; did you mean red"):
        CLASS.team("rad")
    with pytest.raises(UsageError, match="there is no class yet"):
        classroom.require(tmp_path)


def test_a_team_has_a_key_of_its_own(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / ".lab" / "red")
    assert secrets.authorized_keys() == secrets.public_key()
    key = secrets.team_key()
    assert key == RED.key(tmp_path)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    lines = secrets.authorized_keys().splitlines()
    assert len(lines) == 2
    assert lines[0] == secrets.public_key()
    assert lines[1].endswith(" team of foobar-lab red")
    private = key.read_text().splitlines()[2]
    assert private not in secrets.redact(f"a line with {private}")


def test_limits_of_a_class_precede_those_of_a_topology() -> None:
    assert Limits(memory=1).over(Limits(memory=2, cpu=3)) == Limits(memory=1, cpu=3)
    assert replace(CLASS, limits=Limits()).limits == Limits()
