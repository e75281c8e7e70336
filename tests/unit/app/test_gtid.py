"""GTID sets from MySQL and from cookies."""

from __future__ import annotations

import pytest

from foobar import gtid
from tests.unit.app.fakes import UUID, FakeServer, FakeSession


@pytest.mark.parametrize(
    ("raw", "parsed"),
    [
        (f"{UUID}:1-5", f"{UUID}:1-5"),
        (f"{UUID}:1-5:7,\n{UUID}:9", f"{UUID}:1-5:7,{UUID}:9"),
        (f"{UUID.upper()}:1", f"{UUID}:1"),
        (f"{UUID}:tag:1-5", f"{UUID}:tag:1-5"),
    ],
)
def test_white_space_is_removed(raw: str, parsed: str) -> None:
    assert gtid.parse(raw) == parsed


@pytest.mark.parametrize(
    "raw",
    [None, "", "x", UUID, f"{UUID}:", f"{UUID}:1-5,", f"{UUID}:1' OR '1", f"{UUID}:1;",
     ",".join([f"{UUID}:1-5"] * 13), f"{UUID}:١"],
)  # fmt: skip
def test_invalid_set(raw: str | None) -> None:
    assert gtid.parse(raw) is None


class _Long(FakeSession):
    def query(self, sql: str, args: object = (), seconds: float = 1.0) -> list[tuple[object, ...]]:
        other = f"{UUID[:-1]}0:" + ":".join(str(number) for number in range(1, 400, 2))
        return [(f"{other},\n{UUID}:1-9", UUID)]


def test_own_part_of_a_set_that_is_too_long() -> None:
    assert gtid.executed(_Long(FakeServer("web-01"))) == f"{UUID}:1-9"


def test_set_that_mysql_refuses_counts_as_applied() -> None:
    session = FakeSession(FakeServer("web-02", caught_up=False))
    assert gtid.covers(session, f"{UUID}:0", wait=True)
    assert not gtid.covers(session, f"{UUID}:1", wait=True)


def test_reader_without_wait() -> None:
    server = FakeServer("web-02", caught_up=False)
    assert not gtid.covers(FakeSession(server), f"{UUID}:1", wait=False)
    assert not any("WAIT_FOR" in sql for sql in server.sent)
