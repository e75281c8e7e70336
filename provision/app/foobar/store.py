"""What the views ask of the databases: one interface, and its one implementation."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

from foobar import markers, notes
from foobar.database import Database, OutcomeUnknownError, Read, Written
from foobar.markers import Marker
from foobar.notes import ConflictError, Note
from foobar.session import DuplicateError, Session
from foobar.text import Draft
from foobar.watch import View

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """A note or marker that is committed; `new` is False when it had been there before."""

    item: Note | Marker
    new: bool


class Store(Protocol):
    """Notes and markers, wherever they are kept.

    Reads raise NoReaderError, writes NoPrimaryError or OutcomeUnknownError (see `database`).
    """

    def view(self, fresh: float) -> View:
        """Return the health of the servers, at most about `fresh` seconds old."""
        ...

    def recent(self, count: int, seen: str | None) -> Read[list[Note]]:
        """Return the latest `count` notes, newest first; `seen` as in `Database.read`."""
        ...

    def note(self, note_id: str, seen: str | None) -> Read[Note | None]:
        """Return one note or None; `seen` as in `Database.read`."""
        ...

    def add(self, draft: Draft) -> Written[Kept]:
        """Keep a note once; raises ConflictError when its id belongs to other words."""
        ...

    def marker(self, marker_id: str, seen: str | None, only: str | None) -> Read[Marker | None]:
        """Return one marker or None; `seen` and `only` as in `Database.read`."""
        ...

    def mark(self, marker_id: str) -> Written[Kept]:
        """Keep a marker once and delete old ones."""
        ...


class MySQLStore:
    """The store on the lab's MySQL servers."""

    def __init__(self, database: Database, host: str) -> None:
        """Use a database.

        Args:
            database: the servers.
            host: name of this machine, kept with every row it writes.
        """
        self._database = database
        self._host = host

    def view(self, fresh: float) -> View:
        """See `Store.view`."""
        return self._database.view(fresh)

    def recent(self, count: int, seen: str | None) -> Read[list[Note]]:
        """See `Store.recent`."""
        return self._database.read(lambda session: notes.recent(session, count), seen=seen)

    def note(self, note_id: str, seen: str | None) -> Read[Note | None]:
        """See `Store.note`."""
        return self._database.read(lambda session: notes.find(session, note_id), seen=seen)

    def add(self, draft: Draft) -> Written[Kept]:
        """See `Store.add`."""
        note = Note(draft.id, draft.author, draft.text, self._host, notes.now())
        sent = False

        def work(session: Session) -> Kept:
            nonlocal sent
            sent_before, sent = sent, True
            try:
                notes.insert(session, note)
            except DuplicateError:
                there = notes.find(session, draft.id)
                if there is None:
                    raise OutcomeUnknownError("the note was there and is gone again") from None
                if not notes.same_words(there, draft):
                    raise ConflictError(draft.id) from None
                # This request's own first try may be what is there.
                return Kept(there, new=sent_before and there.created == note.created)
            return Kept(note, new=True)

        return self._database.write(work)

    def marker(self, marker_id: str, seen: str | None, only: str | None) -> Read[Marker | None]:
        """See `Store.marker`."""
        return self._database.read(
            lambda session: markers.find(session, marker_id),
            seen=None if only else seen,
            only=only,
        )

    def mark(self, marker_id: str) -> Written[Kept]:
        """See `Store.mark`."""
        marker = Marker(marker_id, self._host, notes.now())

        def work(session: Session) -> Kept:
            try:
                markers.insert(session, marker)
            except DuplicateError:
                there = markers.find(session, marker_id)
                return Kept(there or marker, new=False)
            return Kept(marker, new=True)

        written = self._database.write(work)
        if written.value.new:
            self._prune()
        return written

    def _prune(self) -> None:
        # The marker is committed: failing to tidy up must not fail the request.
        try:
            self._database.write(lambda session: markers.prune(session, notes.now()))
        except Exception:
            _log.warning("old markers could not be deleted", exc_info=True)
