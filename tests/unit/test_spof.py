"""What a visitor noticed, from when requests began, ended, and were answered."""

from __future__ import annotations

import pytest

from provision.core.errors import UsageError
from provision.core.lab import ROOT, Lab
from provision.teaching.spof import Component, Row, Watch, components, summary
from provision.topology import labs


def requests(text: str, every: float = 0.1) -> list[tuple[float, float, bool]]:
    """``+`` is an answer and ``-`` none, from second 0 on."""
    return [(i * every, i * every + 0.05, mark == "+") for i, mark in enumerate(text)]


def test_nothing_is_noticed() -> None:
    watch = summary(requests("+" * 20), 0.5, 1.5)
    assert (watch.asked, watch.failed, watch.ends_failing) == (10, 0, False)
    assert watch.gap < 0.2
    assert str(watch) == "go on"


def test_a_pause() -> None:
    watch = summary(requests("++++++----++++++"), 0.55, 1.55)
    assert (watch.failed, watch.ends_failing) == (4, False)
    assert watch.gap == pytest.approx(0.5, abs=0.06)
    assert str(watch) == "pause of 0.5 s"


def test_gone_until_it_was_put_back() -> None:
    watch = summary(requests("++++------++++"), 0.35, 0.95)
    assert watch.ends_failing
    assert watch.gap == pytest.approx(0.6, abs=0.06)
    assert str(watch) == "fail"


def test_what_was_asked_before_and_after_does_not_count() -> None:
    watch = summary(requests("----++++----"), 0.35, 0.75)
    assert (watch.asked, watch.failed) == (4, 0)


def test_nobody_asked() -> None:
    assert summary([], 0, 1) == Watch(0, 0, 0.0, False)


GOOD, BAD, PAUSE = Watch(9, 0, 0.1, False), Watch(9, 9, 3.0, True), Watch(9, 3, 0.4, False)


@pytest.mark.parametrize(
    ("watches", "lost", "verdict"),
    [
        ((GOOD, GOOD, GOOD), (), "no: nobody notices"),
        ((PAUSE, GOOD, GOOD), (), "no: a short pause"),
        ((GOOD, BAD, GOOD), ("writes",), "SINGLE POINT OF FAILURE for writes"),
        ((BAD, BAD, BAD), ("reads", "writes", "names"), "SINGLE POINT OF FAILURE: the site"),
        ((GOOD, GOOD, BAD), ("names",), "SINGLE POINT OF FAILURE for new visitors"),
    ],
)
def test_verdicts(watches: tuple[Watch, Watch, Watch], lost: tuple[str, ...], verdict: str) -> None:
    row = Row(Component("web-01", "nginx"), *watches, 3.0, 1.0)
    assert row.lost == lost
    assert row.verdict.startswith(verdict)
    assert row.values()["single_point_of_failure"] is bool(lost)


def lab(name: str) -> Lab:
    return labs.open_lab("unit", topology=name, network="10.1.2.0/24", root=ROOT)[0]


def test_everything_that_can_fail() -> None:
    found = [f"{c.machine}/{c.part}" for c in components(lab("simple"))]
    assert found == ["web-01/nginx", "web-01/app", "web-01/mysql", "web-01/dns", "web-01/machine"]
    assert len(components(lab("distributed"))) == 11
    assert [c.machine for c in components(lab("distributed"), "mysql")] == ["web-01", "web-02"]
    assert all(c.part != "machine" for c in components(lab("distributed"), machines=False))


def test_a_component_that_is_none() -> None:
    with pytest.raises(UsageError, match="'web-09' is no component"):
        components(lab("distributed"), "web-09")
