"""Observing a lab: a failed probe hides no other results, of its machine or of others."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from provision.checks import observe as observing
from provision.checks import site_requests
from provision.checks.database import read_back_probe
from provision.checks.observation import Observation
from provision.checks.site_requests import Marker, SiteObservation
from provision.core import clock
from provision.core.errors import HostError
from provision.engine.agent.protocol import Probe, ProbeResponse, Results
from provision.services.tls.https import SiteResponse
from tests.unit.samples import context

HERE = context("distributed")
READ_BACK = read_back_probe().name


def nothing() -> None:
    """The second gather succeeds at once."""


@dataclass
class FakeHost:
    """A machine with results for every probe.

    Args:
        first: called in the first gather, ``second`` in that of the row.
        each: seconds that each gather gave to a probe.
    """

    name: str
    first: Callable[[], Any] = nothing
    second: Callable[[], Any] = nothing
    start: Callable[[], Any] = nothing
    closed: bool = False
    each: list[float] = field(default_factory=list)

    def gather(self, probes: Sequence[Probe[Any]], timeout: float, *, each: float) -> Results:
        self.each.append(each)
        self.second() if probes[0].name == READ_BACK else self.first()
        return Results(self.name, {probe.name: ProbeResponse(1) for probe in probes})

    def close(self) -> None:
        self.closed = True


def accepting(_: Any, marker: Marker, __: float) -> SiteObservation:
    """The row is written, nothing else is requested."""
    marker.response = SiteResponse(201)
    marker.sent.set()
    return SiteObservation()


@pytest.fixture(autouse=True)
def site(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site that accepts the row at once, and little time."""
    monkeypatch.setattr(observing, "DEADLINE", 0.6)
    monkeypatch.setattr(observing, "MARGIN", 0.2)
    monkeypatch.setattr(observing, "observe_site", accepting)


def observe(*hosts: FakeHost) -> Observation:
    fleet = SimpleNamespace(hosts={host.name: host for host in hosts}, start=nothing)
    return observing.observe(HERE, fleet, {})  # type: ignore[arg-type]


def failing(error: Exception) -> Callable[[], Any]:
    def fail() -> None:
        raise error

    return fail


def test_the_row_is_added_to_the_results() -> None:
    seen = observe(FakeHost("web-01"), FakeHost("lb-01"))
    assert READ_BACK in seen.results["web-01"].responses
    assert READ_BACK not in seen.results["lb-01"].responses
    assert not seen.errors


@pytest.mark.parametrize("second", [lambda: time.sleep(5), failing(HostError("lost"))])
def test_results_stay_when_the_row_is_not_found_in_time(second: Callable[[], Any]) -> None:
    seen = observe(FakeHost("web-01", second=second))
    assert seen.results["web-01"].responses
    assert READ_BACK not in seen.results["web-01"].responses
    assert not seen.errors


def test_a_machine_that_does_not_respond_in_time_is_disconnected() -> None:
    late = FakeHost("web-01", lambda: time.sleep(5))
    seen = observe(late, FakeHost("web-02"))
    assert (late.closed, set(seen.results)) == (True, {"web-02"})
    assert seen.errors == {"web-01": "web-01: no response in 0.6 s"}


def test_an_unexpected_exception_is_an_error_of_its_machine_alone() -> None:
    seen = observe(FakeHost("web-01", failing(KeyError("x"))), FakeHost("web-02"))
    assert set(seen.results) == {"web-02"}
    assert seen.errors == {"web-01": "web-01: KeyError: 'x'"}


def test_starting_the_agent_is_not_part_of_the_time_of_probes() -> None:
    host = FakeHost("lb-01", start=lambda: time.sleep(0.15))
    observe(host)
    assert host.each[0] < 0.3


def test_names_are_resolved_however_late_the_site_responds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hung(*_: Any, **__: Any) -> SiteResponse:
        time.sleep(0.4)
        return SiteResponse(error="timed out")

    monkeypatch.setattr(site_requests, "request", hung)
    monkeypatch.setattr(site_requests, "_idle_connection", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(site_requests, "_resolve", lambda _: {"lb-01": "192.0.2.1"})
    seen = site_requests.observe_site(HERE, Marker(), clock.now() + 0.6)
    assert seen.resolved == {"lb-01": "192.0.2.1"}
    assert {r.error for r in seen.responses.values()} == {"timed out"}
    assert {"write", "static", "missing", "balancer/lb-01"} <= set(seen.responses)


@pytest.mark.parametrize(
    ("seconds", "delay", "got"),
    [(60.0, 0.0, 8), (1.0, 0.0, 4), (0.2, 5.0, 1)],
    ids=["enough", "for-the-first", "none"],
)
def test_the_first_pages_are_requested_however_late(
    monkeypatch: pytest.MonkeyPatch, seconds: float, delay: float, got: int
) -> None:
    turns = itertools.cycle(("web-01", "web-02"))

    def page(*_: Any, **__: Any) -> SiteResponse:
        time.sleep(delay)
        return SiteResponse(200, {"x-served-by": next(turns)})

    monkeypatch.setattr(site_requests, "request", page)
    monkeypatch.setattr(site_requests, "_idle_connection", lambda _: contextlib.nullcontext())
    pages = site_requests._pages(HERE, clock.now() + seconds)
    assert len(pages) == got
    assert {p.status for p in pages} == {0 if delay else 200}
