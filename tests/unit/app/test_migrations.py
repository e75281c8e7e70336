"""Migrations: splitting files into statements, and planning."""

from __future__ import annotations

from pathlib import Path

import pytest

from foobar.migrations import Migration, MigrationError, load, plan, statements
from tests.unit.app.conftest import APP


def _migration(number: int, checksum: str = "") -> Migration:
    return Migration(number, f"{number:04d}_x.sql", checksum or f"sum{number}", ("SELECT 1",))


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("A; B;\n", ("A", "B")),
        ("A", ("A",)),
        ("-- one; two\nA -- three;\n;# four;\nB", ("A", "B")),
        ("/* a; b */ A /* c */ x;", ("A   x",)),
        ("A 'x;y' ; B \"a;b\"; C `d;e`", ("A 'x;y'", 'B "a;b"', "C `d;e`")),
        (r"A 'it''s \'; -- no' ;B", (r"A 'it''s \'; -- no'", "B")),
        ("SELECT 1--1; B", ("SELECT 1--1", "B")),
        (" ;; -- nothing\n;", ()),
    ],
)
def test_statements(sql: str, expected: tuple[str, ...]) -> None:
    assert statements(sql) == expected


@pytest.mark.parametrize("sql", ["A;\nB 'open", "A;\n/* open"])
def test_unclosed_quote_names_its_line(sql: str) -> None:
    with pytest.raises(MigrationError, match="line 2"):
        statements(sql)


def test_load_in_order(tmp_path: Path) -> None:
    (tmp_path / "0002_two.sql").write_text("B;")
    (tmp_path / "0001_one.sql").write_text("A;")
    assert [(m.number, m.statements) for m in load(tmp_path)] == [
        (1, ("A",)),
        (2, ("B",)),
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no migrations"),
        ({"0002_two.sql": "A"}, "number 0001"),
        ({"0001_a.sql": "A", "0001_b.sql": "A"}, "number 0002"),
        ({"1_a.sql": "A"}, "invalid name"),
        ({"0001_a.sql": "-- nothing"}, "no statement"),
        ({"0001_a.sql": "A '"}, "0001_a.sql: line 1"),
    ],
)
def test_invalid_files(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(MigrationError, match=message):
        load(tmp_path)


def test_plan_has_what_the_database_lacks() -> None:
    migrations = [_migration(1), _migration(2)]
    assert [m.number for m in plan(migrations, {}).pending] == [1, 2]
    assert [m.number for m in plan(migrations, {1: "sum1"}).pending] == [2]
    assert plan(migrations, {1: "sum1", 2: "sum2"}).pending == ()


def test_older_release_ignores_later_migrations() -> None:
    todo = plan([_migration(1)], {1: "sum1", 2: "sum2"})
    assert (todo.pending, todo.unknown) == ((), (2,))


def test_edited_file_is_refused() -> None:
    with pytest.raises(MigrationError, match=r"0001_x\.sql was edited"):
        plan([_migration(1, "other")], {1: "sum1"})


def test_gap_below_an_applied_file_is_refused() -> None:
    with pytest.raises(MigrationError, match=r"0001_x\.sql is pending"):
        plan([_migration(1), _migration(2)], {2: "sum2"})


def test_migrations_of_the_app() -> None:
    names = [m.name for m in load(APP / "migrations")]
    assert names[:2] == ["0001_notes.sql", "0002_markers.sql"]
