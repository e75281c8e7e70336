"""GTID sets: parsing and arithmetic, and parsing of mysqlbinlog's output."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.database.agent.binlog import parse_commits
from provision.database.agent.gtid import GtidSet

RECORDED = Path(__file__).parent / "recorded"
A, B = "fc985a82-e5b7-11f1-b888-02ec0e70f726", "fc999679-e5b7-11f1-91fd-028a7fa85161"


@pytest.mark.parametrize(
    ("minuend", "subtrahend", "difference"),
    [
        (f"{A}:1-10", f"{A}:1-10", ""),
        (f"{A}:1-10", "", f"{A}:1-10"),
        ("", f"{A}:1-10", ""),
        (f"{A}:1-10", f"{A}:3-4", f"{A}:1-2:5-10"),
        (f"{A}:1-10", f"{A}:1", f"{A}:2-10"),
        (f"{A}:5", f"{A}:1-4:6-9", f"{A}:5"),
        (f"{A}:1-3:7-9", f"{A}:2-8", f"{A}:1:9"),
        (f"{A}:1-3,\n{B}:1-2", f"{A}:1-9", f"{B}:1-2"),
        (f"{A}:1-3,{B}:7", f"{B}:1-6", f"{A}:1-3,{B}:7"),
        (f"{A}:1-2,{A}:2", f"{A}:1", f"{A}:2"),
        (f"{A}:blue:1-3", f"{A}:1-3", f"{A}:blue:1-3"),
    ],
)
def test_subtract(minuend: str, subtrahend: str, difference: str) -> None:
    assert str(GtidSet(minuend) - GtidSet(subtrahend)) == difference


def test_count() -> None:
    text = f"{A}:1-10:12,\n{B}:5"
    assert GtidSet(text).count == 12
    assert GtidSet("").count == 0
    assert not GtidSet("")


def test_intervals_are_merged() -> None:
    assert str(GtidSet(f"{A}:3,{A}:1,{A}:2,{A}:7")) == f"{A}:1-3:7"
    assert GtidSet(f"{A}:1-5,{A}:2,{A}:4-6").count == 6
    assert GtidSet(f"{A}:2,{A}:1") == GtidSet(f"{A}:1-2")


def test_union() -> None:
    assert GtidSet(f"{A}:1-3") | GtidSet(f"{B}:1,{A}:4") == GtidSet(f"{A}:1-4,{B}:1")


def test_commits_in_a_recorded_binary_log() -> None:
    with (RECORDED / "mysqlbinlog.txt").open("rb") as file:
        transactions = parse_commits(file)
    source = "55f3f6e9-e5bc-11f1-96b7-02cdef12fe3c"
    assert transactions == [
        (1795273301641015, f"{source}:32"),
        (1795273301669163, f"{source}:33"),
        (1795273301683861, f"{source}:34"),
        (1795273301688033, f"{source}:35"),
    ]
