"""What visitors send, made clean and checked; pure functions."""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

AUTHOR_LIMIT = 40
TEXT_LIMIT = 500
BODY_LIMIT_BYTES = 16 * 1024

_NOTE_ID = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_MARKER_ID = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
# Characters that turn the direction of everything after them: Unicode Standard Annex 9,
# explicit directional formatting.
_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class InvalidError(ValueError):
    """A value cannot be taken; the message is meant for whoever sent it."""

    def __init__(self, field: str, message: str) -> None:
        """Name the value and the reason.

        Args:
            field: name of the value as it was sent.
            message: what is wrong and what would be right.
        """
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Draft:
    """A note as its author sent it, checked."""

    id: str
    author: str
    text: str


def clean(value: str, *, lines: bool = False) -> str:
    """Return a text without control characters and outer white space.

    Lone surrogates, which no encoding can carry, and characters that reorder the text around
    them are dropped too.

    Args:
        value: any text.
        lines: keep line breaks, as line feeds.
    """
    unified = value.replace("\r\n", "\n").replace("\r", "\n")
    kept = (
        character
        for character in unified
        if (lines and character == "\n")
        or (unicodedata.category(character) not in {"Cc", "Cs"} and character not in _DIRECTION)
    )
    return "".join(kept).strip()


def new_id() -> str:
    """Return a fresh id for a note."""
    return str(uuid.uuid4())


def draft(fields: Mapping[str, object]) -> Draft:
    """Check the fields of a new note.

    Args:
        fields: "author" and "text", and "id" when the sender chose one.

    Returns:
        The draft, with a fresh id when none was sent.

    Raises:
        InvalidError: the first field that cannot be taken.
    """
    author = _words(fields, "author", AUTHOR_LIMIT, lines=False)
    text = _words(fields, "text", TEXT_LIMIT, lines=True)
    chosen = fields.get("id")
    return Draft(new_id() if chosen in (None, "") else note_id(chosen), author, text)


def note_id(value: object) -> str:
    """Return the value when it can be a note's id.

    Raises:
        InvalidError: it cannot.
    """
    return _id(value, _NOTE_ID, "letters, digits and hyphens")


def marker_id(value: object) -> str:
    """Return the value when it can be a marker's id.

    Raises:
        InvalidError: it cannot.
    """
    return _id(value, _MARKER_ID, "lower-case letters, digits and hyphens")


def limit(value: str | None, default: int, greatest: int) -> int:
    """Return how many items were asked for.

    Args:
        value: the query's own words, or None when it has none.
        default: the answer for None.
        greatest: the largest number allowed.

    Raises:
        InvalidError: not a whole number from 1 to `greatest`.
    """
    if value is None:
        return default
    if not re.fullmatch(r"[0-9]{1,6}", value, re.ASCII) or not 1 <= int(value) <= greatest:
        raise InvalidError("limit", f"limit must be a whole number from 1 to {greatest}")
    return int(value)


def _id(value: object, pattern: re.Pattern[str], alphabet: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InvalidError("id", f"id must be 1 to 64 {alphabet}")
    return value


def _words(fields: Mapping[str, object], name: str, longest: int, *, lines: bool) -> str:
    value = fields.get(name)
    if value is None:
        raise InvalidError(name, f"{name} is missing")
    if not isinstance(value, str):
        raise InvalidError(name, f"{name} must be text")
    words = clean(value, lines=lines)
    # Format characters alone (zero-width space and its like) would look empty.
    if all(unicodedata.category(character) in {"Cf", "Zs", "Zl", "Zp"} for character in words):
        raise InvalidError(name, f"{name} is empty")
    if len(words) > longest:
        raise InvalidError(
            name, f"{name} has {len(words)} characters, at most {longest} are allowed"
        )
    return words
