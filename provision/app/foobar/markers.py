"""Markers: canary rows that monitoring writes to see them arrive elsewhere; never shown as notes.

`migrations/0002_markers.sql` is their table.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from foobar.notes import iso
from foobar.session import Session

KEPT = 100
"""Markers that are kept however old they are."""
KEPT_FOR = timedelta(hours=1)
"""Age from which markers beyond the newest KEPT are deleted."""
_DELETED_AT_ONCE = 500


@dataclass(frozen=True)
class Marker:
    """One canary row; `host` is the web server that wrote it, `created` is in UTC."""

    id: str
    host: str
    created: datetime

    def as_json(self) -> dict[str, Any]:
        """Return the marker as the API shows it."""
        return {"id": self.id, "host": self.host, "created": iso(self.created)}


def find(session: Session, marker_id: str) -> Marker | None:
    """Return the marker with that id, or None.

    Args:
        session: where to read.
        marker_id: a checked id.
    """
    rows = session.ask("SELECT id, host, created FROM markers WHERE id = %s", (marker_id,))
    return Marker(rows[0][0], rows[0][1], rows[0][2].replace(tzinfo=UTC)) if rows else None


def insert(session: Session, marker: Marker) -> None:
    """Store a marker.

    Args:
        session: a session to the primary.
        marker: the marker.

    Raises:
        DuplicateError: a marker with this id is there already.
    """
    session.change(
        "INSERT INTO markers (id, host, created) VALUES (%s, %s, %s)",
        (marker.id, marker.host, marker.created.replace(tzinfo=None)),
    )


def prune(session: Session, moment: datetime) -> int:
    """Delete markers that are older than KEPT_FOR and not among the newest KEPT.

    Args:
        session: a session to the primary.
        moment: the time now, in UTC.

    Returns:
        How many were deleted.
    """
    edge = session.ask(
        "SELECT created FROM markers ORDER BY created DESC LIMIT 1 OFFSET %s", (KEPT - 1,)
    )
    if not edge:
        return 0
    before = min(edge[0][0], (moment - KEPT_FOR).replace(tzinfo=None))
    return session.change(
        "DELETE FROM markers WHERE created < %s ORDER BY created LIMIT %s",
        (before, _DELETED_AT_ONCE),
    )
