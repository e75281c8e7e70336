"""The comparison of a replica with its primary while both go on committing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from provision.database.agent import comparison
from provision.database.agent.comparison import COMMIT_SECONDS, WAIT_SECONDS, Comparison, compare
from provision.database.agent.gtid import GtidSet

PRIMARY, REPLICA = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562"
FACTOR = 3.0


@dataclass
class Server:
    """A MySQL server that commits `later` while somebody waits for its transactions.

    `waits`: GTID set and seconds of each WAIT_FOR_EXECUTED_GTID_SET.
    """

    uuid: str
    executed: str
    later: str = ""
    applier: str = "Yes"
    waits: list[tuple[str, float]] = field(default_factory=list)

    def row(self, sql: str) -> dict[str, str]:
        if sql.startswith("SHOW REPLICA STATUS"):
            return {"Replica_SQL_Running": self.applier}
        return {"id": self.uuid[:1], "uuid": self.uuid, "done": self.executed}

    def value(self, sql: str, values: Sequence[str | float] = ()) -> str:
        if sql == "SELECT @@global.gtid_executed":
            return self.executed
        assert sql == "SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s)"
        gtids, seconds = str(values[0]), float(values[1])
        self.waits.append((gtids, seconds))
        self.executed = (GtidSet(self.executed) | GtidSet(self.later)).text
        return "1" if GtidSet(gtids) - GtidSet(self.executed) else "0"


def compared(primary: Server, replica: Server, monkeypatch: pytest.MonkeyPatch) -> Comparison:
    monkeypatch.setattr(comparison, "_compare_tables", lambda *_: (4, (), ()))
    monkeypatch.setattr(comparison, "_age_of_oldest", lambda *_: 7.0)
    return compare(primary, replica, {"factor": FACTOR})  # type: ignore[arg-type]


def test_what_the_primary_is_about_to_commit_is_not_errant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Semi-sync, AFTER_SYNC: the replica acknowledges and commits before the primary commits."""
    primary = Server(PRIMARY, f"{PRIMARY}:1-9", later=f"{PRIMARY}:10")
    replica = Server(REPLICA, f"{PRIMARY}:1-10")
    result = compared(primary, replica, monkeypatch)
    assert primary.waits == [(f"{PRIMARY}:10", COMMIT_SECONDS * FACTOR)]
    assert result.errant == GtidSet()
    assert result.tables == 4, "the tables are compared"


def test_what_the_primary_never_commits_is_errant(monkeypatch: pytest.MonkeyPatch) -> None:
    primary = Server(PRIMARY, f"{PRIMARY}:1-9", later=f"{PRIMARY}:10")
    replica = Server(REPLICA, f"{PRIMARY}:1-10,{REPLICA}:1")
    result = compared(primary, replica, monkeypatch)
    assert result.errant == GtidSet(f"{REPLICA}:1"), "only this one"
    assert result.tables == 0


def test_nothing_is_waited_for_when_both_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    primary, replica = (Server(uuid, f"{PRIMARY}:1-9") for uuid in (PRIMARY, REPLICA))
    result = compared(primary, replica, monkeypatch)
    assert (primary.waits, replica.waits) == ([], [])
    assert (result.errant, result.missing, result.oldest) == (GtidSet(), GtidSet(), None)


@pytest.mark.parametrize(
    ("later", "applier", "missing", "waits"),
    [
        (f"{PRIMARY}:10", "Yes", "", 1),
        ("", "Yes", f"{PRIMARY}:10", 1),
        ("", "No", f"{PRIMARY}:10", 0),  # no applier: nothing will arrive
    ],
)
def test_transactions_that_arrive_in_time_are_not_missing(
    monkeypatch: pytest.MonkeyPatch, later: str, applier: str, missing: str, waits: int
) -> None:
    primary = Server(PRIMARY, f"{PRIMARY}:1-10")
    replica = Server(REPLICA, f"{PRIMARY}:1-9", later, applier)
    result = compared(primary, replica, monkeypatch)
    assert result.missing == GtidSet(missing)
    assert result.oldest == (7.0 if missing else None)
    assert replica.waits == [(f"{PRIMARY}:1-10", WAIT_SECONDS * FACTOR)] * waits
