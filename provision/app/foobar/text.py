"""Clean and validate the input of visitors; pure functions."""

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
# Explicit directional formatting, which reorders the text after it (Unicode Annex 9).
_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class InvalidError(ValueError):
    """An invalid value; the message is shown to the sender."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Draft:
    """A validated note of a visitor."""

    id: str
    author: str
    text: str


def clean(value: str, *, lines: bool = False) -> str:
    """Return a text without control characters and outer white space.

    Lone surrogates and directional formatting are removed, too. Line breaks are removed unless
    `lines` is true.
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
    """Return a new id for a note."""
    return str(uuid.uuid4())


def draft(fields: Mapping[str, object]) -> Draft:
    """Validate the fields of a new note: "author", "text" and optionally "id".

    Raises:
        InvalidError: for the first invalid field.
    """
    author = _words(fields, "author", AUTHOR_LIMIT, lines=False)
    text = _words(fields, "text", TEXT_LIMIT, lines=True)
    chosen = fields.get("id")
    return Draft(new_id() if chosen in (None, "") else note_id(chosen), author, text)


def note_id(value: object) -> str:
    """Validate the id of a note; raises InvalidError."""
    return _id(value, _NOTE_ID, "letters, digits and hyphens")


def marker_id(value: object) -> str:
    """Validate the id of a marker; raises InvalidError."""
    return _id(value, _MARKER_ID, "lower-case letters, digits and hyphens")


def limit(value: str | None, default: int, greatest: int) -> int:
    """Return the requested number of items.

    Raises:
        InvalidError: not an integer from 1 to `greatest`.
    """
    if value is None:
        return default
    if not re.fullmatch(r"[0-9]{1,6}", value, re.ASCII) or not 1 <= int(value) <= greatest:
        raise InvalidError("limit", f"limit must be an integer from 1 to {greatest}")
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
    # Format characters alone (such as a zero-width space) look empty.
    if all(unicodedata.category(character) in {"Cf", "Zs", "Zl", "Zp"} for character in words):
        raise InvalidError(name, f"{name} is empty")
    if len(words) > longest:
        raise InvalidError(
            name, f"{name} has {len(words)} characters, at most {longest} are allowed"
        )
    return words
