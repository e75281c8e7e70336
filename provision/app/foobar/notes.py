"""Notes: the rows of the guest book, as SQL; `migrations/0001_notes.sql` is their table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from foobar.session import Row, Session
from foobar.text import Draft

_COLUMNS = "id, author, text, host, created"


class ConflictError(Exception):
    """The id belongs to another note already."""


@dataclass(frozen=True)
class Note:
    """One committed note; `host` is the web server that took it, `created` is in UTC."""

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
    """Return the time in UTC, in the milliseconds that the tables hold."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def iso(moment: datetime) -> str:
    """Return a UTC time in the form of ISO 8601, with milliseconds and Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def recent(session: Session, count: int) -> list[Note]:
    """Return the latest notes, newest first.

    Args:
        session: where to read.
        count: how many at most.
    """
    rows = session.ask(f"SELECT {_COLUMNS} FROM notes ORDER BY seq DESC LIMIT %s", (count,))
    return [_note(row) for row in rows]


def find(session: Session, note_id: str) -> Note | None:
    """Return the note with that id, or None.

    Args:
        session: where to read.
        note_id: a checked id.
    """
    rows = session.ask(f"SELECT {_COLUMNS} FROM notes WHERE id = %s", (note_id,))
    return _note(rows[0]) if rows else None


def insert(session: Session, note: Note) -> None:
    """Store a note.

    Args:
        session: a session to the primary.
        note: the note.

    Raises:
        DuplicateError: a note with this id is there already.
    """
    session.change(
        f"INSERT INTO notes ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s)",
        (note.id, note.author, note.text, note.host, note.created.replace(tzinfo=None)),
    )


def same_words(note: Note, draft: Draft) -> bool:
    """Say whether a stored note holds what a draft says."""
    return (note.author, note.text) == (draft.author, draft.text)


def _note(row: Row) -> Note:
    note_id, author, text, host, created = row
    return Note(note_id, author, text, host, created.replace(tzinfo=UTC))
