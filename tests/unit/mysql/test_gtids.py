"""GTID sets: arithmetic, and reading them out of binary logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.database.agent.binlog import commits, count
from provision.database.gtid import Gtids, subtract

RECORDED = Path(__file__).parent / "recorded"
A, B = "fc985a82-e5b7-11f1-b888-02ec0e70f726", "fc999679-e5b7-11f1-91fd-028a7fa85161"


@pytest.mark.parametrize(
    ("these", "those", "left"),
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
def test_subtract(these: str, those: str, left: str) -> None:
    assert str(subtract(these, those)) == left


def test_count() -> None:
    text = f"{A}:1-10:12,\n{B}:5"
    assert Gtids.parse(text).count == count(text) == 12
    assert Gtids.parse("").count == count("") == 0


def test_merged() -> None:
    assert str(Gtids.parse(f"{A}:3,{A}:1,{A}:2,{A}:7")) == f"{A}:1-3:7"
    assert Gtids.parse(f"{A}:1-5,{A}:2,{A}:4-6").count == 6


def test_commits_of_a_recorded_binary_log() -> None:
    with (RECORDED / "mysqlbinlog.txt").open("rb") as file:
        found = commits(file)
    source = "55f3f6e9-e5bc-11f1-96b7-02cdef12fe3c"
    assert found == [
        (1795273301641015, f"{source}:32"),
        (1795273301669163, f"{source}:33"),
        (1795273301683861, f"{source}:34"),
        (1795273301688033, f"{source}:35"),
    ]
