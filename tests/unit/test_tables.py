"""The tables of all commands at the widths of real screens."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest
from rich.text import Text

from provision.commands import base, namespace, tables
from provision.commands.tables import Column, Grid, Layout, fit
from provision.core.lab import ROOT

IDENTIFIERS = {
    "MACHINE": "web-02",
    "PROVIDER": "vagrant",
    "SERVER": "lb-02: web-02 (backup)",
    "STATE": "[red]unreachable[/]",
    "SERVICES": "haproxy nginx foobar mysql [red]prometheus-node-exporter:failed[/] dnsmasq",
    "DATABASE": "db-02",
    "NETWORK": "192.168.100.0/24",
    "ADDRESS": "192.168.100.110",
    "CERTIFICATE": "lb-01.next",
    "VERSION": "1.12.0-rc1",
    "BINARY LOG": "binlog.000123",
    "SOURCES": "192.168.100.10, 192.168.100.11, 192.168.100.12, 192.168.100.13",
    "QUESTION": "What happens to a request while a web server is restarted, and why is none lost?",
    "WHAT": "the package mmdebstrap is not installed, which creates the base image",
    "FIX": "sudo apt-get install mmdebstrap uidmap dnsmasq-base",
    "NOTE": "before the exercise with the failing replica, for the second group of students",
    "SUMMARY": "web-02 has applied no transaction for 35 s; the primary is web-01",
    "NEXT": "invoke lab.logs web-02 --service prometheus-node-exporter --lab two",
    "REQUESTS": "▁▂▃▄▅▆▇█▁▂▃▄▅▆▇█▁▂▃▄",
    "SINGLE POINT OF FAILURE": "[red]yes: 7 of 12 requests failed[/]",
    "STEP": "waiting for prometheus-node-exporter.service on 192.168.100.110",
    "PACKAGE": "prometheus-node-exporter-collectors",
    "NEWEST": "9.7.4-2+deb13u1",
    "VALUE": "https://www.foobar.com/static/foobar.css?version=0123456789",
}
"""A long value per column; others have a short number."""


def all_layouts() -> list[Layout]:
    namespace.collection()
    return [table for name, table in tables.LAYOUTS.items() if name != "faults"]


def rows(table: Layout) -> list[list[str]]:
    long = [IDENTIFIERS.get(column.name, "12345") for column in table.columns]
    short = [value.split()[0] for value in long]
    return [long, short]


def plain(lines: Any) -> list[str]:
    return [line.plain for line in lines]


def words(text: str) -> list[str]:
    from rich.text import Text

    return Text.from_markup(text).plain.split()


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("table", all_layouts(), ids=lambda table: str(table.name))
def test_every_table_fits_and_breaks_no_word(table: Layout, width: int) -> None:
    values = rows(table)
    lines = plain(Grid(table, values).lines(width))
    longest = max(len(word) for row in values for cell in row for word in words(cell))
    assert max(map(len, lines)) <= max(width, longest + 16), "\n".join(lines)
    printed = " ".join(lines).split()
    note = next((line for line in lines if line.startswith("(not shown")), "")
    left_out = " ".join(lines[lines.index(note) :]) if note else ""
    for column, cell in zip(table.columns, values[0], strict=True):
        if column.rank == 0 or column.name not in left_out:
            missing = [word for word in words(cell) if word not in printed]
            assert not missing, f"{column.name}: {missing}\n" + "\n".join(lines)


@pytest.mark.parametrize("table", all_layouts(), ids=lambda table: str(table.name))
def test_the_least_important_columns_are_left_out_first(table: Layout) -> None:
    ranks = sorted(column.rank for column in table.columns if column.rank)
    assert len(ranks) == len(set(ranks)), "two columns have the same rank"
    assert table.columns[0].rank == 0
    shown = set(range(len(table.columns)))
    widths = [8] * len(table.columns)
    for width in range(200, 0, -1):
        fitted = set(fit(table.columns, widths, widths, width))
        gone = shown - fitted
        if not fitted:
            break
        assert all(
            table.columns[i].rank >= max(table.columns[j].rank for j in fitted) for i in gone
        )
        shown = fitted


def test_a_wide_screen_shows_everything_in_one_line_per_row() -> None:
    for table in all_layouts():
        lines = plain(Grid(table, rows(table)).lines(4096))
        assert len(lines) == len(rows(table)) + table.header, table.name


def test_prose_wraps_between_words_before_a_column_is_left_out() -> None:
    table = Layout("x", (Column("NAME"), Column("MORE", 1), Column("TEXT", prose=True)))
    lines = plain(Grid(table, [("web-01", "abc", "one two three four five six seven")]).lines(40))
    assert lines == [
        "NAME    MORE  TEXT",
        "web-01  abc   one two three four five",
        "              six seven",
    ]


def test_records_on_a_narrow_screen() -> None:
    table = Layout("x", (Column("NAME"), Column("STATE"), Column("NEXT", prose=True)))
    lines = plain(Grid(table, [("web-01", "running", "one two three four")]).lines(20))
    assert lines == ["web-01", "  state  running", "  next   one two", "         three four"]


def test_records_of_a_table_without_names() -> None:
    table = Layout("x", (Column("NAME"), Column("STEP", prose=True)), header=False)
    lines = plain(Grid(table, [("request-id", "3f6ebb04302b4ab494f1009e7f001c28")]).lines(20))
    assert lines == ["request-id", "  3f6ebb04302b4ab494f1009e7f001c28"]


def test_every_command_uses_this_table() -> None:
    found = []
    for path in sorted((ROOT / "provision").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "rich.table":
                found.append(path.name)
    assert not found


def test_empty_columns_are_left_out() -> None:
    table = Layout("x", (Column("NAME"), Column("NOTE", 1)))
    assert plain(Grid(table, [("a", "")]).lines(80)) == ["NAME", "a"]


@pytest.mark.parametrize(
    ("terminal", "environ", "width"),
    [
        (True, {"COLUMNS": "40", "TERM": "xterm"}, 40),
        (True, {"COLUMNS": "100", "TERM": "xterm"}, 100),
        (True, {"COLUMNS": "60", "TERM": "dumb"}, 60),
        (True, {"COLUMNS": "60", "TERM": "xterm", "NO_COLOR": "1"}, 60),
        (False, {"COLUMNS": "40", "TERM": "xterm"}, 40),
        (False, {"TERM": "xterm"}, base.PIPE_WIDTH),
    ],
)
def test_a_table_on_every_kind_of_output(
    terminal: bool,
    environ: dict[str, str],
    width: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    table = Layout("x", (Column("NAME"), Column("STATE", 1), Column("NEXT", prose=True)))
    row = ("web-01", "[red]unreachable[/]", "invoke lab.logs web-01 --service nginx --lab two")
    screen = base.console()
    assert screen.width == width
    tables.show(screen, table, [row])
    text = capsys.readouterr().out
    codes = set(re.findall("\x1b\\[([0-9;]*)m", text))
    assert bool(codes) == (terminal and environ["TERM"] == "xterm")
    assert ("31" in codes) == (width == 100)  # NO_COLOR leaves bold
    plain_text = Text.from_ansi(text).plain
    assert max(map(len, plain_text.splitlines())) <= width
    assert {"web-01", "nginx", "two"} <= set(plain_text.split())
    assert ("unreachable" in plain_text) == (width != 40)
    assert (len(plain_text.splitlines()) == 2) == (width >= 100)
