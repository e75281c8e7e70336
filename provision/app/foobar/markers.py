"""Markers: canary rows of monitoring, to test replication (migrations/0002_markers.sql)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from foobar.notes import iso
from foobar.session import DatabaseSession

KEPT = 100
"""Markers that are kept regardless of their age."""
KEEP_FOR = timedelta(hours=1)
"""Age from which other markers are deleted."""
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


def find(session: DatabaseSession, marker_id: str) -> Marker | None:
    """Return the marker with that id, or None."""
    rows = session.query("SELECT id, host, created FROM markers WHERE id = %s", (marker_id,))
    return Marker(rows[0][0], rows[0][1], rows[0][2].replace(tzinfo=UTC)) if rows else None


def insert(session: DatabaseSession, marker: Marker) -> None:
    """Store a marker.

    Raises:
        DuplicateError: a marker with this id exists.
    """
    session.change(
        "INSERT INTO markers (id, host, created) VALUES (%s, %s, %s)",
        (marker.id, marker.host, marker.created.replace(tzinfo=None)),
    )


def prune(session: DatabaseSession, moment: datetime) -> int:
    """Delete markers older than KEEP_FOR, except the newest KEPT; return how many."""
    edge = session.query(
        "SELECT created FROM markers ORDER BY created DESC LIMIT 1 OFFSET %s", (KEPT - 1,)
    )
    if not edge:
        return 0
    before = min(edge[0][0], (moment - KEEP_FOR).replace(tzinfo=None))
    return session.change(
        "DELETE FROM markers WHERE created < %s ORDER BY created LIMIT %s",
        (before, _DELETED_AT_ONCE),
    )
