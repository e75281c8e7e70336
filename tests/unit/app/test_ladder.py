"""The application's timeouts are rungs of the ladder (provision/core/timeouts.py)."""

from __future__ import annotations

from foobar import gate, gtid, session, watch
from provision.core.timeouts import TIMEOUTS


def test_the_applications_own_timeouts_are_those_of_the_ladder() -> None:
    assert round(session.CONNECT_SECONDS * 1000) == TIMEOUTS.database_connect
    assert round(session.QUERY_SECONDS * 1000) == TIMEOUTS.database_query
    assert round(session.CHANGE_SECONDS * 1000) == TIMEOUTS.database_change
    assert round(watch.PROBE_SECONDS * 1000) == TIMEOUTS.database_probe
    assert round(gate.BLOCKED_SECONDS * 1000) == TIMEOUTS.gate
    # A read waits for the watch and for the replica, then reads the primary.
    waits = watch.PROBE_SECONDS + gtid.WAIT_SECONDS + session.QUERY_SECONDS
    assert round(waits * 1000) < TIMEOUTS.app_read
