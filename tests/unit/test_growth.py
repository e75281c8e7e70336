"""What grows has a bound: the table, the purge that enforces it, the checks that report excess."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path

import pytest

from provision.checks.growth import controller_facts, judge_growth
from provision.core import growth
from provision.core.errors import LabError
from provision.core.growth import Growth
from provision.core.lab import ROOT
from provision.core.retention import keep_newest, rotate
from provision.database import saved_transactions
from provision.database.agent.backup import KEEP
from provision.database.interface import BACKUP_FOLDER
from provision.drills import events
from provision.engine.agent.overwritten import FOLDER, KEPT
from provision.operations import snapshot
from provision.services.app import releases
from provision.services.app.application import Record, save_record
from provision.services.growth.agent import purge
from provision.services.growth.agent.measure import GrowthFacts, Size, measure
from tests.unit.samples import context

LOGGED = re.compile(
    r"(/var/(?:log|crash|spool|backups|cache)(?:/[\w.*-]+)+"
    r"|/var/lib/(?:mysql|prometheus)/[\w./*-]+)"
)
FIXED = (
    "/var/lib/mysql/auto.cnf",
    "/var/lib/mysql/mysql.ibd",
    "/var/lib/mysql/mysqld-auto.cnf",
    "/var/lib/mysql/*.pem",
    "/var/lib/prometheus/node-exporter*",
    "/var/cache/apt/*",
    "/var/cache/apt",
    "/var/cache/debconf",
    "/var/cache/foobar-lab*",
    "/var/spool/cron/crontabs",
    "/var/log",
)
"""Paths whose content does not grow."""


def sources() -> Iterator[tuple[Path, str]]:
    for folder in ("configs", "provision"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".j2", ".sh", ".yml") and path.name != "growth.py":
                yield path, path.read_text(encoding="utf-8")


def test_every_log_path_in_the_sources_has_a_bound() -> None:
    patterns = [pattern for entry in growth.MACHINE for pattern in entry.paths]
    problems, seen = [], 0
    for path, text in sources():
        for found in LOGGED.findall(text):
            seen += 1
            name = found.rstrip("/.")
            covered = any(
                fnmatch(name, pattern) or pattern.startswith(f"{name}/") for pattern in patterns
            )
            if not covered and not any(fnmatch(name, fixed) for fixed in FIXED):
                problems.append(f"{path.relative_to(ROOT)}: {name}")
    assert seen > 10
    assert not problems, f"add these to provision/core/growth.py: {sorted(set(problems))}"


def test_numbers_in_the_table_are_those_that_the_programs_use() -> None:
    assert growth.SCHEDULED_BACKUPS == KEEP
    assert growth.OVERWRITTEN_KEPT == KEPT
    by_name = {entry.what: entry for entry in growth.MACHINE}
    assert all(path.startswith(BACKUP_FOLDER) for path in by_name["scheduled backups"].paths)
    assert by_name["copies of overwritten files"].paths == (f"{FOLDER}/*",)
    for entry in growth.MACHINE:
        assert bool(entry.purge) == (entry.by == growth.HOURLY), entry.what


def test_the_configuration_sets_the_bounds_of_the_table() -> None:
    lab = context()
    units = {unit.name: unit for unit in lab.desired(lab.lab.machine("web-01"))}
    text = "\n".join(
        str(resource.expected().get("content", ""))
        for unit in units.values()
        for resource in unit.resources
    )
    assert f"SystemMaxUse={growth.JOURNAL_MIB}M" in text
    assert f"relay_log_space_limit           = {growth.RELAY_LOG_BYTES}" in text
    assert "max:512M" in text
    assert "/var/log/nginx/access.log" not in text


# --- purge ---------------------------------------------------------------------------------------


def test_a_log_is_cut_to_its_newest_lines_and_keeps_its_inode(tmp_path: Path) -> None:
    log = tmp_path / "dpkg.log"
    log.write_text("".join(f"line {number}\n" for number in range(20000)))
    inode = log.stat().st_ino
    entry = Growth("logs", (str(tmp_path / "*.log"),), 65536, "", purge="trim")
    assert purge.purge(asdict(entry)) == [f"{log}: cut to its newest {log.stat().st_size} bytes"]
    lines = log.read_text().splitlines()
    assert lines[-1] == "line 19999"
    assert re.fullmatch(r"line \d+", lines[0])
    assert 8000 < log.stat().st_size <= 65536 / purge.TRIMMED
    assert log.stat().st_ino == inode
    assert purge.purge(asdict(entry)) == []


def test_records_are_cut_at_their_size(tmp_path: Path) -> None:
    log = tmp_path / "btmp"
    log.write_bytes(b"".join(bytes([number % 250]) * 384 for number in range(100)) + b"torn")
    assert purge.cut(str(log), 1000, 384) == 768
    assert log.read_bytes() == bytes([98]) * 384 + bytes([99]) * 384


def test_the_oldest_copies_are_removed(tmp_path: Path) -> None:
    for number in range(6):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(b"x" * 4096)
        os.utime(path, (number, number))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("x")
    os.utime(tmp_path / "folder", (0, 0))
    entry = Growth("copies", (str(tmp_path / "*"),), growth.MIB, "", count=3, purge="remove")
    assert len(purge.purge(asdict(entry))) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3.tar", "4.tar", "5.tar"]
    purge.purge(asdict(replace(entry, limit=4096)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["5.tar"]


@pytest.mark.parametrize(
    ("sizes", "limit", "first"),
    [
        ([], 100, ""),
        ([500], 100, ""),  # the current log is never purged
        ([60, 30, 40], 200, ""),
        ([60, 30, 40], 100, "b.1"),
        ([60, 30, 400], 100, "b.2"),
    ],
)
def test_the_newest_binary_logs_are_kept(sizes: list[int], limit: int, first: str) -> None:
    listed = "".join(f"b.{number}\t{size}\tNo\n" for number, size in enumerate(sizes))
    assert purge.first_to_keep(listed, limit) == first


# --- checks --------------------------------------------------------------------------------------


def test_a_bound_that_is_not_in_force_is_reported() -> None:
    entries = growth.on_machine(("mysql",))
    assert judge_growth(entries, GrowthFacts({"journal": Size(1, 65 * growth.MIB)})).ok
    large = judge_growth(entries, GrowthFacts({"journal": Size(1, 90 * growth.MIB)}))
    assert not large.ok
    assert large.severity == "error"
    assert large.cause == "journal: 90 MiB, the bound is 64 MiB (journald, SystemMaxUse)"
    many = judge_growth(entries, GrowthFacts({"scheduled backups": Size(11, 100)}))
    assert "scheduled backups: 11, the bound is 8" in many.got
    core = judge_growth(entries, GrowthFacts({"core dumps": Size(1, 4096)}))
    assert "core dumps: 4 KiB, the bound is 0 B" in core.got


def test_a_log_file_without_a_bound_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "a.log").write_text("x" * 10)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "b.log").write_text("x" * 10)
    (tmp_path / "empty.log").touch()
    facts = measure({"known": [str(tmp_path / "known")]}, [str(tmp_path)])
    assert facts.uncovered == (str(tmp_path / "new" / "b.log"),)
    assert facts.sizes["known"].bytes > 0
    verdict = judge_growth((), facts)
    assert (verdict.ok, verdict.severity) == (False, "warning")
    assert judge_growth((), facts, owned=False).ok


def test_a_machine_of_the_recorded_lab_has_an_entry_for_each_role() -> None:
    roles = {entry.role for entry in growth.MACHINE if entry.role}
    assert roles <= {role.name for role in context().roles}
    assert len(growth.on_machine(())) < len(growth.on_machine(("mysql", "app")))


def test_logs_of_a_service_that_has_moved_to_another_machine_have_a_bound() -> None:
    patterns = {pattern for entry in growth.on_machine(()) for pattern in entry.paths}
    assert {"/var/log/nginx/*", "/var/log/mysql/*"} <= patterns


# --- on the controller ---------------------------------------------------------------------------


def test_a_killed_deployment_leaves_no_copy(tmp_path: Path) -> None:
    lab = context(root=tmp_path)
    for version, deployed in (("2.0.0", True), ("2.1.0", False)):
        folder = lab.lab.directory / "releases" / version
        folder.mkdir(parents=True)
        (folder / "VERSION").write_text(f"{version}\n")
        save_record(lab.lab.directory, version, Record(deployed=deployed))
    releases.remove_undeployed(lab)
    assert releases.stored_versions(lab) == {"2.0.0"}


def test_the_controller_keeps_the_last_releases(tmp_path: Path) -> None:
    lab = context(root=tmp_path)
    lab.lab.directory.mkdir(parents=True)
    versions = [f"2.0.{number}" for number in range(9)]
    history: list[str] = []
    for version in [*versions, "3.0.0-failed"]:
        folder = lab.lab.directory / "releases" / version
        folder.mkdir(parents=True)
        (folder / "VERSION").write_text(f"{version}\n")
        if version in versions:
            history.append(version)
            (lab.lab.directory / "releases" / releases.HISTORY).write_text(json.dumps(history))
            lab = replace(lab, state=replace(lab.state, release=version))
    assert controller_facts(lab.lab.directory).sizes["releases"].count > growth.RELEASES_KEPT
    releases.prune(lab)
    left = sorted(p.parent.name for p in (lab.lab.directory / "releases").glob("*/VERSION"))
    assert left == versions[-growth.RELEASES_KEPT :]
    assert releases.history(lab) == left
    assert releases.rollback_version(lab) == "2.0.7"
    assert judge_growth(growth.CONTROLLER, controller_facts(lab.lab.directory)).ok


def test_a_lab_has_a_limited_number_of_snapshots(tmp_path: Path) -> None:
    lab = context(root=tmp_path)
    for number in range(growth.SNAPSHOTS):
        (lab.lab.directory / "snapshots" / f"s{number:02}").mkdir(parents=True)

    class Opened:
        def __init__(self) -> None:
            self.lab, self.state, self.provider = lab.lab, lab.state, None

    with pytest.raises(LabError, match="20 snapshots, as many as a lab may have") as refused:
        snapshot.take(Opened(), "one-more", "", lambda *_: None)  # type: ignore[arg-type]
    assert refused.value.hint == "invoke lab.snapshot s00 --delete"


def test_the_newest_files_are_kept_within_number_and_size(tmp_path: Path) -> None:
    for number in range(6):
        path = tmp_path / f"{number}.gz"
        path.write_bytes(b"x" * 100)
        os.utime(path, (number, number))
    removed = keep_newest(tmp_path.glob("*.gz"), 4, 10_000)
    assert [path.name for path in removed] == ["0.gz", "1.gz"]
    assert [path.name for path in keep_newest(tmp_path.glob("*.gz"), 9, 250)] == ["2.gz", "3.gz"]
    assert [path.name for path in keep_newest(tmp_path.glob("*.gz"), 9, 1)] == ["4.gz"]
    assert keep_newest([tmp_path / "5.gz", tmp_path / "gone.gz"], 9, 1) == ()


def test_saved_errant_transactions_are_bounded(tmp_path: Path) -> None:
    lab = context(root=tmp_path)
    folder = saved_transactions.folder(lab)
    folder.mkdir(parents=True)
    for number in range(growth.ERRANT_KEPT + 2):
        path = folder / f"web-01-{number:03}.sql.gz"
        path.touch()
        os.utime(path, (number, number))
    lines: list[str] = []
    saved_transactions.keep_newest_files(lab, lines.append)
    assert len(list(folder.iterdir())) == growth.ERRANT_KEPT
    assert lines == [
        f"removed web-01-{n:03}.sql.gz: the newest 50 such files are kept" for n in (0, 1)
    ]


def test_a_log_begins_again_beyond_its_bound(tmp_path: Path) -> None:
    log = tmp_path / "vagrant.log"
    rotate(log, 10)
    log.write_text("x" * 10)
    rotate(log, 10)
    assert log.exists()
    log.write_text("x" * 11)
    rotate(log, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["vagrant.log.1"]


def test_the_log_of_drills_forgets_its_oldest_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "DRILL_LOG_BYTES", 4096)
    for run in range(1, 9):
        events.append(tmp_path, run, "starting", drill="a")
        for _ in range(5):
            events.append(tmp_path, run, "check", text="x" * 100)
    left = events.read(tmp_path)
    assert events.path(tmp_path).stat().st_size < 2 * 4096
    assert left[0].kind == "starting", "every run is complete"
    assert left[0].run > 1
    assert left[-1].run == 8
    # The last run stays whatever its size.
    for _ in range(90):
        events.append(tmp_path, 8, "check", text="x" * 100)
    assert {event.run for event in events.read(tmp_path)} == {8}
    assert len(events.read(tmp_path)) == 96


def test_the_package_pool_counts_on_the_controller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_POOL", str(tmp_path / "pool"))
    archive = tmp_path / "pool" / "debian"
    archive.mkdir(parents=True)
    (archive / "a.deb").write_bytes(b"x" * 8192)
    facts = controller_facts(tmp_path / "lab")
    assert facts.sizes["package pool"].bytes == 8192
    excess = replace(growth.HOST[0], limit=4096)
    assert judge_growth((excess,), facts).got.startswith("package pool: 8 KiB, the bound is 4 KiB")
