"""Input: cleaned and validated; errors name the field."""

from __future__ import annotations

import pytest

from foobar import text
from foobar.text import InvalidError


def test_draft_is_trimmed_and_gets_an_id() -> None:
    first, second = (text.draft({"author": " Ada ", "text": "\thello\r\nyou\n"}) for _ in "ab")
    assert (first.author, first.text) == ("Ada", "hello\nyou")
    assert first.id != second.id
    assert text.note_id(first.id) == first.id


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("a\x00b\x1b[31mc\x7f\x85", "ab[31mc"),
        ("lone \ud800 surrogate", "lone  surrogate"),
        ("a\u202eb\u2066c", "abc"),
        ("one\ntwo", "onetwo"),
        ("👩\u200d💻", "👩\u200d💻"),
    ],
)
def test_control_characters_are_removed(raw: str, cleaned: str) -> None:
    assert text.clean(raw) == cleaned


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"text": "x"}, "author"),
        ({"author": "x"}, "text"),
        ({"author": " \x00 ", "text": "x"}, "author"),
        ({"author": "x", "text": "\u200b\u200b"}, "text"),
        ({"author": "x" * 41, "text": "x"}, "author"),
        ({"author": "x", "text": "x" * 501}, "text"),
        ({"author": 1, "text": "x"}, "author"),
        ({"author": "x", "text": ["x"]}, "text"),
        ({"author": "x", "text": "x", "id": "a_b"}, "id"),
        ({"author": "x", "text": "x", "id": "a" * 65}, "id"),
        ({"author": "x", "text": "x", "id": 7}, "id"),
        ({"author": "x", "text": "x", "id": "é"}, "id"),
        ({"author": "x", "text": "x", "id": "a\n"}, "id"),
    ],
)
def test_error_names_the_field(fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidError) as caught:
        text.draft(fields)
    assert caught.value.field == field
    assert field in str(caught.value)


def test_limits_are_inclusive() -> None:
    draft = text.draft({"author": "é" * 40, "text": "🚀" * 500, "id": "A-9" + "a" * 61})
    assert (len(draft.author), len(draft.text), len(draft.id)) == (40, 500, 64)


def test_marker_ids_are_lower_case() -> None:
    assert text.marker_id("a-1") == "a-1"
    with pytest.raises(InvalidError):
        text.marker_id("A-1")


@pytest.mark.parametrize("value", ["0", "-1", "101", "x", "", "1.0", "٣", "9" * 50])
def test_invalid_limit(value: str) -> None:
    with pytest.raises(InvalidError):
        text.limit(value, 20, 100)


def test_limit_default_and_edges() -> None:
    assert [text.limit(value, 20, 100) for value in (None, "1", "100")] == [20, 1, 100]
