"""Storage of notes and markers on the database servers."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from foobar import markers, notes
from foobar.database import Database, OutcomeUnknownError, Read, Written
from foobar.markers import Marker
from foobar.notes import ConflictError, Note
from foobar.session import DatabaseSession, DuplicateError
from foobar.text import Draft
from foobar.watch import PROBE_SECONDS, HealthView

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stored:
    """A note or marker that is committed; `new` is false if it existed before."""

    item: Note | Marker
    new: bool


class Store:
    """Notes and markers on the database servers.

    Reads raise NoReaderError, writes NoPrimaryError or OutcomeUnknownError (see `database`).
    """

    def __init__(self, database: Database, host: str) -> None:
        self._database = database
        self._host = host

    def view(self, fresh: float, patience: float = PROBE_SECONDS) -> HealthView:
        """Return the health of the servers; arguments as in `Database.view`."""
        return self._database.view(fresh, patience)

    def warm_up(self) -> None:
        """See `Database.warm_up`."""
        self._database.warm_up()

    def recent(self, count: int, last_write: str | None) -> Read[list[Note]]:
        """Return the latest notes, newest first; `last_write` as in `Database.read`."""
        return self._database.read(
            lambda session: notes.recent(session, count), last_write=last_write
        )

    def note(self, note_id: str, last_write: str | None) -> Read[Note | None]:
        """Return a note or None."""
        return self._database.read(
            lambda session: notes.find(session, note_id), last_write=last_write
        )

    def add(self, draft: Draft) -> Written[Stored]:
        """Store a note once; raises ConflictError when its id belongs to another note."""
        note = Note(draft.id, draft.author, draft.text, self._host, notes.now())
        sent = False

        def work(session: DatabaseSession) -> Stored:
            nonlocal sent
            sent_before, sent = sent, True
            try:
                notes.insert(session, note)
            except DuplicateError:
                existing = notes.find(session, draft.id)
                if existing is None:
                    raise OutcomeUnknownError("the note was deleted at the same time") from None
                if not notes.same_content(existing, draft):
                    raise ConflictError(draft.id) from None
                # The existing note may be the first attempt of this request.
                return Stored(existing, new=sent_before and existing.created == note.created)
            return Stored(note, new=True)

        return self._database.write(work)

    def marker(
        self, marker_id: str, last_write: str | None, only: str | None
    ) -> Read[Marker | None]:
        """Return a marker or None; `only` as in `Database.read`."""
        return self._database.read(
            lambda session: markers.find(session, marker_id),
            last_write=None if only else last_write,
            only=only,
        )

    def mark(self, marker_id: str) -> Written[Stored]:
        """Store a marker once, and delete old ones."""
        marker = Marker(marker_id, self._host, notes.now())

        def work(session: DatabaseSession) -> Stored:
            try:
                markers.insert(session, marker)
            except DuplicateError:
                existing = markers.find(session, marker_id)
                return Stored(existing or marker, new=False)
            return Stored(marker, new=True)

        written = self._database.write(work)
        if written.value.new:
            self._prune()
        return written

    def _prune(self) -> None:
        # The marker is committed: a failed cleanup must not fail the request.
        try:
            self._database.write(lambda session: markers.prune(session, notes.now()))
        except Exception:
            _log.warning("old markers could not be deleted", exc_info=True)
