"""The impact of a fault, computed from recorded requests; components and verdicts."""

from __future__ import annotations

import pytest

from provision.commands.explain import fault_values
from provision.core.errors import UsageError
from provision.teaching.clients import ClientRequest, Impact, impact
from provision.teaching.faults import Component, components
from provision.teaching.spof import FaultResult
from tests.unit.samples import context


def requests(text: str, every: float = 0.1) -> list[ClientRequest]:
    """``+`` is a success and ``-`` a failure, from second 0 on."""
    return [ClientRequest(i * every, i * every + 0.05, mark == "+") for i, mark in enumerate(text)]


def test_no_impact() -> None:
    measured = impact(requests("+" * 20), 0.5, 1.5)
    assert (measured.requests, measured.failed, measured.unavailable) == (10, 0, False)
    assert measured.gap < 0.2
    assert str(measured) == "unaffected"


def test_an_interruption() -> None:
    measured = impact(requests("++++++----++++++"), 0.55, 1.55)
    assert (measured.failed, measured.unavailable) == (4, False)
    assert measured.gap == pytest.approx(0.5, abs=0.06)
    assert str(measured) == "interrupted for 0.5 s"


def test_unavailable_until_it_was_restored() -> None:
    measured = impact(requests("++++------++++"), 0.35, 0.95)
    assert measured.unavailable
    assert measured.gap == pytest.approx(0.6, abs=0.06)
    assert str(measured) == "fail"


def test_requests_before_and_after_the_fault_do_not_count() -> None:
    measured = impact(requests("----++++----"), 0.35, 0.75)
    assert (measured.requests, measured.failed) == (4, 0)


def test_no_requests() -> None:
    assert impact([], 0, 1) == Impact(0, 0, 0.0, False)


GOOD, BAD, PAUSE = Impact(9, 0, 0.1, False), Impact(9, 9, 3.0, True), Impact(9, 3, 0.4, False)


@pytest.mark.parametrize(
    ("impacts", "lost", "verdict"),
    [
        ((GOOD, GOOD, GOOD), (), "no: no impact"),
        ((PAUSE, GOOD, GOOD), (), "no: a short interruption"),
        ((GOOD, BAD, GOOD), ("writes",), "SINGLE POINT OF FAILURE for writes"),
        ((BAD, BAD, BAD), ("reads", "writes", "names"), "SINGLE POINT OF FAILURE: the site"),
        ((GOOD, GOOD, BAD), ("names",), "SINGLE POINT OF FAILURE for name resolution"),
    ],
)
def test_verdicts(
    impacts: tuple[Impact, Impact, Impact], lost: tuple[str, ...], verdict: str
) -> None:
    result = FaultResult(Component("web-01", "nginx"), *impacts, 3.0, 1.0)
    assert result.lost == lost
    assert result.verdict.startswith(verdict)
    assert fault_values(result)["single_point_of_failure"] is bool(lost)


def test_components_of_the_topologies() -> None:
    names = [f"{c.machine}/{c.part}" for c in components(context("simple"))]
    assert names == ["web-01/nginx", "web-01/app", "web-01/mysql", "web-01/dns", "web-01/machine"]
    assert len(components(context("distributed"))) == 11
    assert [c.machine for c in components(context("distributed"), "mysql")] == ["web-01", "web-02"]
    assert all(c.part != "machine" for c in components(context("distributed"), machines=False))


def test_an_unknown_component() -> None:
    with pytest.raises(UsageError, match="'web-09' is not a component"):
        components(context("distributed"), "web-09")
