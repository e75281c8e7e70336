"""Notes: the entries of the guest book (migrations/0001_notes.sql)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from foobar.session import DatabaseSession, Row
from foobar.text import Draft

_COLUMNS = "id, author, text, host, created"


class ConflictError(Exception):
    """The id belongs to another note."""


@dataclass(frozen=True)
class Note:
    """One committed note; `host` is the web server that stored it, `created` is in UTC."""

    id: str
    author: str
    text: str
    host: str
    created: datetime

    def as_json(self) -> dict[str, Any]:
        """Return the note as the API shows it."""
        return {
            "id": self.id,
            "author": self.author,
            "text": self.text,
            "host": self.host,
            "created": iso(self.created),
        }


def now() -> datetime:
    """Return the time in UTC, truncated to milliseconds as in the tables."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def iso(moment: datetime) -> str:
    """Return a UTC time in the form of ISO 8601, with milliseconds and Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def recent(session: DatabaseSession, count: int) -> list[Note]:
    """Return the latest notes, newest first."""
    rows = session.query(f"SELECT {_COLUMNS} FROM notes ORDER BY seq DESC LIMIT %s", (count,))
    return [_note(row) for row in rows]


def find(session: DatabaseSession, note_id: str) -> Note | None:
    """Return the note with that id, or None."""
    rows = session.query(f"SELECT {_COLUMNS} FROM notes WHERE id = %s", (note_id,))
    return _note(rows[0]) if rows else None


def insert(session: DatabaseSession, note: Note) -> None:
    """Store a note.

    Raises:
        DuplicateError: a note with this id exists.
    """
    session.change(
        f"INSERT INTO notes ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s)",
        (note.id, note.author, note.text, note.host, note.created.replace(tzinfo=None)),
    )


def same_content(note: Note, draft: Draft) -> bool:
    """Return whether a stored note has the content of a draft."""
    return (note.author, note.text) == (draft.author, draft.text)


def _note(row: Row) -> Note:
    note_id, author, text, host, created = row
    return Note(note_id, author, text, host, created.replace(tzinfo=UTC))
