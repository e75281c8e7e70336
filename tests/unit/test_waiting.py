"""Waiting for a condition with a deadline."""

from __future__ import annotations

import time

import pytest

from provision.core.waiting import Timeout, timeout_factor, wait_until


def test_first_true_value_is_returned() -> None:
    values = iter([None, "", "ready", "later"])
    assert wait_until(lambda: next(values), 5, "a value", interval=0.001) == "ready"


def test_condition_is_checked_without_a_deadline() -> None:
    assert wait_until(lambda: True, 0, "nothing")


def test_timeout_names_the_condition() -> None:
    start = time.monotonic()
    with pytest.raises(Timeout, match=r"timed out after 0\.05 s waiting for mysqld to start"):
        wait_until(lambda: False, 0.05, "mysqld to start", interval=10)
    assert time.monotonic() - start < 1


def test_condition_is_checked_after_the_deadline() -> None:
    checks: list[float] = []

    def slow() -> bool:
        checks.append(time.monotonic())
        time.sleep(0.03)
        return len(checks) == 2

    assert wait_until(slow, 0.01, "the second check", interval=0.001)


@pytest.mark.parametrize(
    ("value", "factor"), [("", 1.0), ("20", 20.0), ("0.5", 1.0), ("many", 1.0)]
)
def test_timeout_factor(value: str, factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_PATIENCE", value)
    assert timeout_factor() == factor
