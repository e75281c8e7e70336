"""What db.rejoin says of errant transactions is what the saved file holds."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from provision.core.errors import LabError
from provision.database import rejoin
from provision.database.agent.gtid import GtidSet
from provision.database.agent.requests import FindErrant, Rebuild
from provision.database.agent.results import ErrantTransactions
from tests.unit.samples import context

UUID = "22222222-2222-2222-2222-222222222222"


class Fleet:
    def host(self, name: str) -> Any:
        return type("Host", (), {"name": name, "log": print})()


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs db.rejoin on a server with 224 errant transactions, of which its logs hold some."""

    def run(logged: Iterable[int], *, discard: bool) -> rejoin.RejoinResult:
        requests: list[Any] = []

        def execute(_host: Any, request: Any, _timeout: float) -> Any:
            requests.append(type(request))
            return ErrantTransactions(GtidSet(f"{UUID}:1-224"), ("/logs/binlog.000009",))

        def fetch(_host: Any, _command: Any, path: Path) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [
                f"#original_commit_timestamp=1796010246424916\n"
                f"SET @@SESSION.GTID_NEXT= '{UUID}:{number}'/*!*/;\n"
                for number in logged
            ]
            path.write_bytes(gzip.compress("".join(lines).encode()))

        monkeypatch.setattr(rejoin, "execute", execute)
        monkeypatch.setattr("provision.engine.stream.fetch", fetch)
        here = context(root=tmp_path)
        fleet: Any = Fleet()
        try:
            return rejoin.rejoin(here, fleet, "web-02", discard=discard)
        finally:
            run.requests = requests  # type: ignore[attr-defined]

    return run


def test_the_count_is_that_of_the_file(done: Any) -> None:
    result = done(range(221, 225), discard=True)
    assert (result.errant.count, result.saved) == (224, 4)
    assert result.file is not None
    assert gzip.decompress(result.file.read_bytes()).count(b"GTID_NEXT") == 4


def test_a_file_without_transactions_is_not_kept(done: Any, tmp_path: Path) -> None:
    result = done((), discard=True)
    assert (result.errant.count, result.saved, result.file) == (224, 0, None)
    assert not list(tmp_path.rglob("*.sql.gz"))


def test_without_discard_all_must_be_saved(done: Any) -> None:
    with pytest.raises(LabError, match="hold only 4 of them"):
        done(range(221, 225), discard=False)
    assert Rebuild not in done.requests
    assert FindErrant in done.requests
    assert done(range(1, 225), discard=False).saved == 224


def test_replicas_with_errant_transactions_rejoin_after_these_are_saved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As lab.up does; a server that cannot be read, or has none, is left alone."""

    class Named:
        def host(self, name: str) -> Any:
            return type("Host", (), {"name": name, "log": lambda _self, _text: None})()

    def execute(host: Any, request: Any, _timeout: float) -> Any:
        assert isinstance(request, FindErrant)
        if host.name == "web-01":
            raise LabError("web-01: mysqld does not respond")
        gtids = f"{UUID}:1-3" if host.name in ("web-02", "web-03") else ""
        return ErrantTransactions(GtidSet(gtids), ())

    def rejoined(_context: Any, _fleet: Any, name: str) -> Any:
        if name == "web-03":
            raise LabError("its binary logs hold only 1 of them")
        return rejoin.RejoinResult(name, "cloned", GtidSet(f"{UUID}:1-3"), 3)

    monkeypatch.setattr(rejoin, "execute", execute)
    monkeypatch.setattr(rejoin, "rejoin", rejoined)
    monkeypatch.setattr(rejoin, "assume_role", lambda *_: type("Role", (), {"record": None})())
    fleet: Any = Named()
    here = context(root=tmp_path)
    results, errors = rejoin.rejoin_errant(here, fleet, ["web-01", "web-02", "web-03", "web-04"])
    assert [(r.machine, r.saved) for r in results] == [("web-02", 3)]
    assert [(name, str(error)) for name, error in errors.items()] == [
        ("web-03", "its binary logs hold only 1 of them")
    ]


def test_lab_up_looks_for_errant_transactions_only_on_replicas_that_failed() -> None:
    from provision.engine.apply import UnreadableError
    from provision.engine.converge import Outcome
    from provision.operations.up import failed_replicas

    here = context()

    def outcome(name: str, error: LabError | None) -> Outcome:
        return Outcome(name, (), 1, 1.0, 1, error)

    failure = LabError("mysql-replication failed")
    both = {name: outcome(name, failure) for name in ("lb-01", "web-01", "web-02")}
    assert failed_replicas(here, both) == ["web-02"]
    assert failed_replicas(here, {"web-02": outcome("web-02", None)}) == []
    hung = UnreadableError("web-02: effective settings is not readable: MySQL error 2013")
    assert failed_replicas(here, {"web-02": outcome("web-02", hung)}) == []
