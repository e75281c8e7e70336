"""GTID sets: the promise that whoever has written reads the own write, carried in a cookie."""

from __future__ import annotations

import re

from foobar.session import RefusedError, Session

LONGEST = 512
"""Longest set, in characters, that is put into or taken from a cookie."""
WAIT_SECONDS = 0.5
"""How long a read waits for a replica to catch up before it asks the primary."""

# uuid:interval[:interval]... with optional tags, MySQL 9.7 manual, "GTID Format and Storage".
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PART = r"(?:[0-9]{1,19}(?:-[0-9]{1,19})?|[a-z_][a-z0-9_]{0,31})"
_SET = re.compile(rf"{_UUID}(?::{_PART})+(?:,{_UUID}(?::{_PART})+)*", re.ASCII)


def parse(text: str | None) -> str | None:
    """Return a GTID set as MySQL writes it, without white space, or None when it is not one.

    Args:
        text: what MySQL or a visitor's cookie says; anything at all.
    """
    compact = "".join((text or "")[: 2 * LONGEST].split()).lower()
    return compact if len(compact) <= LONGEST and _SET.fullmatch(compact) else None


def executed(session: Session) -> str | None:
    """Return a set that covers everything committed through this session.

    The whole executed set, or only the server's own part when the whole is too long for a
    cookie, or None when even that is too long.

    Args:
        session: a session to the primary, after the commit.

    Raises:
        SessionError: the server did not say.
    """
    whole, server_uuid = session.ask("SELECT @@global.gtid_executed, @@global.server_uuid")[0]
    compact = "".join(str(whole).split()).lower()
    own = (part for part in compact.split(",") if part.startswith(str(server_uuid).lower()))
    return parse(compact) or parse(next(own, None))


def covers(session: Session, seen: str, *, patient: bool) -> bool:
    """Say whether a replica has applied a set.

    Args:
        session: a session to the replica.
        seen: a set that `parse` has returned.
        patient: wait for it, WAIT_SECONDS at most.

    Returns:
        False when the replica is behind. True when it is not, and also when MySQL does not take
        the set for one: nothing was promised then.

    Raises:
        LostError: the server is gone.
    """
    try:
        if session.ask("SELECT GTID_SUBSET(%s, @@global.gtid_executed)", (seen,))[0][0]:
            return True
        if not patient:
            return False
        answer = session.ask(
            "SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s)",
            (seen, WAIT_SECONDS),
            seconds=WAIT_SECONDS + 0.3,
        )
    except RefusedError:
        return True
    return bool(answer[0][0] == 0)
