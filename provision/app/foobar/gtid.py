"""GTID sets in a cookie, for read-your-writes consistency."""

from __future__ import annotations

import re

from foobar.session import DatabaseSession, StatementError

ON_PRIMARY = "primary"
"""Instead of a set in a cookie: the set is not known, and only the primary has the last write."""

MAX_LENGTH = 512
"""Maximum length of a set in a cookie, in characters."""
WAIT_SECONDS = 0.5
"""How long a read waits for a replica to catch up before it uses the primary."""

# uuid:interval[:interval]... with optional tags, MySQL 9.7 manual, "GTID Format and Storage".
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PART = r"(?:[0-9]{1,19}(?:-[0-9]{1,19})?|[a-z_][a-z0-9_]{0,31})"
_SET = re.compile(rf"{_UUID}(?::{_PART})+(?:,{_UUID}(?::{_PART})+)*", re.ASCII)


def parse(text: str | None) -> str | None:
    """Return a GTID set without white space or `ON_PRIMARY`; None when it is invalid."""
    if text == ON_PRIMARY:
        return ON_PRIMARY
    compact = "".join((text or "")[: 2 * MAX_LENGTH].split()).lower()
    return compact if len(compact) <= MAX_LENGTH and _SET.fullmatch(compact) else None


def executed(session: DatabaseSession) -> str | None:
    """Return a set that contains everything committed through this session.

    It is the executed set, or only the server's own part if the set is too long for a cookie, or
    None if even that is too long.

    Raises:
        SessionError: the query failed.
    """
    whole, server_uuid = session.query("SELECT @@global.gtid_executed, @@global.server_uuid")[0]
    compact = "".join(str(whole).split()).lower()
    own = (part for part in compact.split(",") if part.startswith(str(server_uuid).lower()))
    return parse(compact) or parse(next(own, None))


def covers(session: DatabaseSession, last_write: str, *, wait: bool) -> bool:
    """Return whether a replica has applied a set; also true if MySQL finds the set invalid.

    Args:
        last_write: a set that `parse` has returned.
        wait: wait for the replica, at most WAIT_SECONDS.

    Raises:
        LostError: the server is not reachable.
    """
    try:
        if session.query("SELECT GTID_SUBSET(%s, @@global.gtid_executed)", (last_write,))[0][0]:
            return True
        if not wait:
            return False
        rows = session.query(
            "SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s)",
            (last_write, WAIT_SECONDS),
            seconds=WAIT_SECONDS + 0.3,
        )
    except StatementError:
        return True
    return bool(rows[0][0] == 0)
