"""How long writes failed before a promotion, from HAProxy's log and the binary log."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from provision.core.errors import HostError
from provision.database.agent.gtid import GtidSet
from provision.database.agent.requests import FindLogged
from provision.database.agent.results import LoggedTransactions
from provision.database.promotion import Promotion
from provision.engine.agent.process import ProcessResult
from provision.operations import outage
from provision.services.haproxy import writes
from tests.unit.samples import context

LINE = (
    "{end:.6f} lb-01 haproxy[449]: 10.0.0.1:40896 [30/Nov/2026:03:44:06.392] www~ web/{server} "
    '0/0/2/{wait}/{total} {status} 800 - - {flags} 2/1/0/0/0 0/0 "{method} '
    'https://www.foobar.com/notes HTTP/2.0"'
)
"""As ``journalctl -o short-unix -u haproxy`` printed it."""


def line(end: float, status: int, *, total: int = 0, flags: str = "----", **more: Any) -> str:
    values = {"server": "web-01", "wait": total, "method": "POST", **more}
    return LINE.format(end=end, status=status, total=total, flags=flags, **values)


def test_log_lines_are_parsed() -> None:
    text = "\n".join(
        [
            "-- Boot 56d8684e31c342639769f1eff92e94fa --",
            line(100.5, 303, total=32),
            line(101.0, 503, total=4000, server="<NOSRV>", wait=-1, flags="SC--"),
            line(102.0, 404),
            line(103.0, -1, flags="CD--"),
            line(104.0, -1, flags="SD--"),
            line(105.0, 200, method="GET"),
            line(106.0, 201, method="DELETE"),
        ]
    )
    found = writes.parse_writes(text)
    assert [(w.end, w.ok) for w in found] == [
        (100.5, True),
        (101.0, False),
        (104.0, False),
        (106.0, True),
    ]
    assert found[1].begin == pytest.approx(97.0), "a request fails from when it was accepted"


def found(text: str, until: float) -> writes.FailedWrites | None:
    return writes.failed_writes(writes.parse_writes(text), until)


def test_the_first_failure_since_the_last_success_counts() -> None:
    log = "\n".join([line(10, 503), line(20, 303), line(25, 503, total=1000), line(30, 503)])
    assert found(log, 40) == writes.FailedWrites(2, 24.0)
    assert found(f"{log}\n{line(35, 303)}", 40) is None
    assert found(f"{log}\n{line(45, 303)}", 40) == writes.FailedWrites(2, 24.0), "after the end"
    assert found(line(50, 503), 40) is None
    assert found("", 40) is None


# --- from a promotion ----------------------------------------------------------------------------


@dataclass
class Machine:
    """A machine whose clock differs from the controller's."""

    name: str
    clock: float = 5000.0
    log: str = ""
    commit: float = 0.0
    down: bool = False
    asked: list[Any] = field(default_factory=list)

    def run(self, *argv: str) -> ProcessResult:
        if self.down:
            raise HostError(f"{self.name} does not respond")
        return ProcessResult(0, f"{self.clock:.9f}" if argv[0] == "date" else self.log, "")


class Machines:
    def __init__(self, *hosts: Machine) -> None:
        self.hosts = {host.name: host for host in hosts}

    def host(self, name: str) -> Machine:
        return self.hosts[name]

    def each(self, call: Callable[[Machine], Any], names: list[str]) -> dict[str, Any]:
        return {name: call(self.hosts[name]) for name in names}


UUID = "11111111-1111-1111-1111-111111111111"


def promotion(**changes: Any) -> Promotion:
    """A promotion whose new primary became writable ten seconds ago."""
    done = Promotion(
        "web-01", "web-02", 2, None, time.monotonic() - 10, (), {}, GtidSet(f"{UUID}:1-9")
    )
    return replace(done, **changes)


@pytest.fixture(autouse=True)
def binary_log(monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(host: Machine, request: FindLogged, _timeout: float) -> LoggedTransactions:
        host.asked.append(request)
        return LoggedTransactions((), round(host.commit * 1e6), GtidSet(), ())

    monkeypatch.setattr(outage, "execute", execute)


def measured(done: Promotion, *machines: Machine) -> outage.Outage | None:
    fleet: Any = Machines(*machines)
    return outage.measure_outage(context(), fleet, done)


def test_from_the_first_failed_write_whichever_clock_logged_it() -> None:
    # It is 5000 there; the new primary was writable at 4990, the first write failed at 4957.5.
    log = "\n".join([line(4950, 303), line(4958, 503, total=500), line(4980, 503)])
    lasted = measured(promotion(), Machine("lb-01", log=log), Machine("web-02"))
    assert lasted is not None
    assert lasted.seconds == pytest.approx(32.5, abs=0.5)
    assert (lasted.measured, lasted.failed) == ("failed-write", 2)
    assert "first of 2 failed writes in HAProxy's log on lb-01" in lasted.source


def test_without_a_failed_write_from_the_last_transaction() -> None:
    new = Machine("web-02", clock=7000.0, commit=6890.0)
    lasted = measured(promotion(), Machine("lb-01", log=line(4950, 303)), new)
    assert lasted is not None
    assert lasted.seconds == pytest.approx(100, abs=0.5)
    assert lasted.measured == "last-commit"
    assert lasted.source.startswith("no write failed in HAProxy's log on lb-01; ")
    assert new.asked[0].after == GtidSet(f"{UUID}:1-8"), "only the last one is looked up"


def test_what_the_new_primary_commits_itself_is_not_the_last_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = "22222222-2222-2222-2222-222222222222:1"
    new = Machine("web-02", clock=7000.0)

    def execute(host: Machine, request: FindLogged, _timeout: float) -> LoggedTransactions:
        host.asked.append(request)
        logged = {f"{UUID}:9": 6890.0, own: 6990.5}
        left = {gtid: at for gtid, at in logged.items() if GtidSet(gtid) - request.after}
        last = round(max(left.values()) * 1e6)
        return LoggedTransactions(tuple(left), last, GtidSet(), ())

    monkeypatch.setattr(outage, "execute", execute)
    lasted = measured(promotion(), new)
    assert lasted is not None
    assert lasted.seconds == pytest.approx(100, abs=0.5)
    assert new.asked[1].after == GtidSet(f"{UUID}:1-8,{own}")


def test_a_balancer_that_does_not_respond_is_not_a_witness() -> None:
    new = Machine("web-02", clock=7000.0, commit=6890.0)
    lasted = measured(promotion(), Machine("lb-01", down=True), new)
    assert lasted is not None
    assert "HAProxy" not in lasted.source


def test_nothing_is_claimed_when_nothing_was_measured() -> None:
    assert measured(promotion(), Machine("web-02")) is None
    assert measured(promotion(old="web-02")) is None, "it was complete before"


def test_a_planned_promotion_knows_its_pause() -> None:
    lasted = measured(promotion(seconds=0.4))
    assert lasted is not None
    assert (lasted.seconds, lasted.measured) == (0.4, "fence")
