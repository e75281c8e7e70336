"""Stored releases, the history of their deployments, and the order of a rolling restart."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from provision.core.errors import LabError, UsageError
from provision.core.growth import RELEASES_KEPT
from provision.engine.context import Context
from provision.operations import restart
from provision.operations.machine_releases import KEPT, superfluous
from provision.services.app import releases
from provision.services.app import role as app
from provision.services.app.application import Record, load_record, save_record
from tests.unit.samples import context

FILES = {
    "VERSION": "2.0.0\n",
    "gunicorn.conf.py": "",
    "foobar/__init__.py": "",
    "migrations/0001_notes.sql": "SELECT 1;",
}


@pytest.fixture
def lab(tmp_path: Path) -> Context:
    """A lab whose folder is in a temporary checkout."""
    made = context(root=tmp_path)
    made.lab.directory.mkdir(parents=True)
    return made


def record_deployed(lab: Context, version: str) -> None:
    """As after a deployment; the sample lab has no state to change."""
    record = load_record(lab.lab.directory, version) or Record()
    save_record(lab.lab.directory, version, replace(record, deployed=True))


def folder(path: Path, **files: str) -> Path:
    """A release in a folder; ``name=""`` leaves a file out."""
    for name, content in {**FILES, **files}.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        if name in files and not content:
            (path / name).unlink(missing_ok=True)
        else:
            (path / name).write_text(content)
    return path


def test_a_release_is_stored_under_its_version(lab: Context, tmp_path: Path) -> None:
    new = folder(tmp_path / "new")
    assert releases.store(lab, new).version == "2.0.0"
    assert app.version_of(app.stored_release(lab, "2.0.0")) == "2.0.0"
    assert releases.store(lab, new, "2.1.0-rc1").version == "2.1.0-rc1"
    assert app.version_of(app.stored_release(lab, "2.1.0-rc1")) == "2.1.0-rc1"
    assert releases.store(lab, new).version == "2.0.0"
    # Neither was deployed yet.
    assert releases.deployed_versions(lab) == {releases.current(lab)}


def test_different_files_need_a_different_version(lab: Context, tmp_path: Path) -> None:
    releases.store(lab, folder(tmp_path / "new"))
    record_deployed(lab, "2.0.0")
    other = folder(tmp_path / "other", **{"foobar/__init__.py": "# fixed"})
    with pytest.raises(UsageError, match=r"a different release is already stored as 2\.0\.0"):
        releases.store(lab, other)
    assert releases.store(lab, other, "2.0.1").version == "2.0.1"


@pytest.mark.parametrize(
    ("files", "version", "message"),
    [
        ({"VERSION": ""}, "", "has no version"),
        ({"gunicorn.conf.py": ""}, "", r"gunicorn\.conf\.py missing"),
        ({}, "../up", "is not a valid version"),
        ({}, "-x", "is not a valid version"),
        ({}, "9" * 50, "is not a valid version"),
        ({"VERSION": "1.0 final"}, "", "is not a valid version"),
    ],
)
def test_an_invalid_release_is_refused(
    lab: Context, tmp_path: Path, files: dict[str, str], version: str, message: str
) -> None:
    with pytest.raises(LabError, match=message):
        releases.store(lab, folder(tmp_path / "new", **files), version)
    assert not list(lab.lab.directory.glob("releases/*/VERSION"))


def test_a_missing_folder_is_refused(lab: Context, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none does not exist"):
        releases.store(lab, tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file is not a folder"):
        releases.store(lab, tmp_path / "file")


def test_without_a_folder_the_source_is_a_stored_version_or_the_checkout(
    lab: Context, tmp_path: Path
) -> None:
    releases.store(lab, folder(tmp_path / "new"))
    assert releases.source(lab, "", "2.0.0") == app.stored_release(lab, "2.0.0")
    assert releases.source(lab, "", "3.0.0") == app.SOURCE
    assert releases.source(lab, "", "") == app.SOURCE
    assert releases.source(lab, str(tmp_path), "2.0.0") == tmp_path


@pytest.mark.parametrize(
    ("past", "now", "expected"),
    [
        ([], "1", ["1"]),
        (["1", "2"], "2", ["1", "2"]),
        (["1", "2", "3"], "2", ["1", "2"]),
        (["1"], "2", ["1", "2"]),
    ],
)
def test_a_history_ends_with_the_recorded_version(
    past: list[str], now: str, expected: list[str]
) -> None:
    assert releases.ending_with(past, now) == expected


def test_a_rollback_needs_an_earlier_release(lab: Context) -> None:
    with pytest.raises(UsageError, match="no release was deployed before"):
        releases.rollback_version(lab)
    with pytest.raises(UsageError, match=r"no release '0\.1' was deployed here"):
        releases.rollback_version(lab, "0.1")
    place = lab.lab.directory / "releases" / releases.HISTORY
    place.parent.mkdir()
    place.write_text(json.dumps(["0.9", releases.current(lab)]))
    assert releases.rollback_version(lab) == "0.9"


def test_a_damaged_history_is_reported_with_its_purpose(lab: Context) -> None:
    place = lab.lab.directory / "releases" / releases.HISTORY
    place.parent.mkdir()
    place.write_text('{"not": "a list"}')
    with pytest.raises(LabError, match=r"only app\.rollback needs it"):
        releases.history(lab)


def test_machines_keep_the_last_releases_and_the_current_one() -> None:
    past = [str(number) for number in range(1, 9)]
    assert superfluous(past, past, "8") == ["1", "2", "3"]
    assert len(past) - 3 == KEPT
    assert superfluous(["8", "7"], past, "8") == []
    # One that was never deployed is removed before those that were.
    assert superfluous(["bad", *past[3:]], past, "8") == ["bad"]
    assert superfluous([*past[3:], "bad"], past[:1], "1") == ["4", "5"]


def test_databases_restart_with_the_primary_last() -> None:
    lab = context(primary="web-01")
    machines = lab.lab.with_role("mysql")
    assert [m.name for m in restart.order(lab, "mysql", machines)] == ["web-02", "web-01"]
    assert [m.name for m in restart.order(lab, "nginx", machines)] == ["web-01", "web-02"]
    assert [m.name for m in restart.services(lab)["foobar"]] == ["web-01", "web-02"]


def test_a_restart_waits_for_the_services_that_it_restarts() -> None:
    lab = context(primary="web-01")
    names = {check.name for check in restart.awaited(lab, restart.KINDS, "web-02")}
    services = {name for name in names if name.startswith("service/")}
    assert services == {"service/web-02/mysql", "service/web-02/nginx", "service/web-02/foobar"}
    assert "database/web-02" in names


def test_what_was_rolled_back_can_be_deployed_again(lab: Context, tmp_path: Path) -> None:
    for number in range(RELEASES_KEPT + 2):
        new = folder(tmp_path / str(number))
        releases.store(lab, new, f"3.{number}")
        record_deployed(lab, f"3.{number}")
        os.utime(app.stored_release(lab, f"3.{number}"), (number, number))
    releases.prune(lab)  # only the current one is in the history
    kept = releases.deployed_versions(lab) - {releases.current(lab)}
    assert kept == {"3.3", "3.4", "3.5", "3.6"}
