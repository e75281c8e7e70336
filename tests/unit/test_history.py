"""The history checker finds every kind of broken promise, and only those."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.live.consistency.history import (
    ACKNOWLEDGED,
    FOUND,
    MISSING,
    REFUSED,
    UNAVAILABLE,
    UNKNOWN,
    Attempt,
    History,
    NoteRead,
    overlaps,
    violations,
)

A = Attempt(1, "a", 0.0, 0.1, ACKNOWLEDGED)
B = Attempt(1, "b", 0.2, 0.3, ACKNOWLEDGED)
C = Attempt(2, "c", 0.0, 0.5, ACKNOWLEDGED)
GOOD = {"web-01": ["a", "c", "b"], "web-02": ["a", "c", "b"]}


def history(*extra: Attempt | NoteRead) -> History:
    return History(
        (A, B, C, *(e for e in extra if isinstance(e, Attempt))),
        tuple(e for e in extra if isinstance(e, NoteRead)),
    )


def both(*notes: str) -> dict[str, list[str]]:
    return {"web-01": list(notes), "web-02": list(notes)}


def test_a_good_history_breaks_nothing() -> None:
    reads = [
        NoteRead(1, "a", 0.4, 0.5, FOUND),
        NoteRead(1, "b", 0.6, 0.7, UNAVAILABLE),
        NoteRead(1, "a", 0.05, 0.1, MISSING),  # before the acknowledgment
        NoteRead(2, "a", 0.4, 0.5, MISSING),  # another session was promised nothing
    ]
    unknown = Attempt(1, "d", 1.0, 2.0, UNKNOWN)
    assert violations(history(*reads, unknown), GOOD) == []
    assert violations(history(*reads, unknown), both("a", "c", "b", "d")) == []


@pytest.mark.parametrize(
    ("kind", "extra", "databases"),
    [
        ("lost", (), {**GOOD, "web-02": ["a", "c"]}),
        ("doubled", (), both("a", "c", "b", "b")),
        ("phantom", (), both("a", "c", "b", "x")),
        ("phantom", (Attempt(1, "r", 1, 2, REFUSED),), both("a", "c", "b", "r")),
        ("stale", (NoteRead(1, "a", 0.4, 0.5, MISSING),), GOOD),
        ("vanished", (Attempt(1, "u", 1, 2, UNKNOWN), NoteRead(2, "u", 3, 4, FOUND)), GOOD),
        ("order", (), both("b", "a", "c")),
        ("different", (), {"web-01": ["a", "c", "b"], "web-02": ["a", "b", "c"]}),
    ],
)
def test_each_broken_promise_is_found(
    kind: str, extra: tuple[Attempt | NoteRead, ...], databases: dict[str, list[str]]
) -> None:
    found = violations(history(*extra), databases)
    assert found
    assert {line.split(":")[0] for line in found} <= {kind, "different"}


def test_a_write_that_was_sent_again_is_no_phantom_and_no_disorder() -> None:
    """Its first attempt had an unknown outcome; a later one found it stored."""
    first = Attempt(1, "d", 0.35, 0.4, UNKNOWN)
    again = Attempt(1, "d", 0.5, 0.6, ACKNOWLEDGED)
    refused = replace(first, result=REFUSED)
    assert violations(history(first, again), both("a", "c", "b", "d")) == []
    assert violations(history(refused, again), both("a", "c", "b", "d")) == []


def test_two_writable_databases_are_found() -> None:
    one = {"web-01": [1.0, 1.05, 1.1], "web-02": [2.0, 2.05]}
    assert overlaps(one, 0.5) == []
    assert overlaps({**one, "web-02": [1.07, 2.0]}, 0.5) != []
    back = {"web-01": [1.0, 1.1, 5.0, 5.1], "web-02": [2.0, 3.0]}
    assert overlaps(back, 1.5) == []
    assert overlaps(back, 10.0) != [], "one interval from 1.0 to 5.1"
