"""Ctrl-C does not cut a section in two."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from provision.core.interrupts import deferred


@pytest.fixture(params=["SIGINT", "SIGTERM"])
def number(request: pytest.FixtureRequest) -> signal.Signals:
    """A signal whose handler raises KeyboardInterrupt."""
    return signal.Signals[request.param]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Those of a command."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_takes_effect_at_the_end(number: signal.Signals) -> None:
    handler, steps = signal.getsignal(number), list[str]()

    def command() -> None:
        with deferred():
            os.kill(os.getpid(), number)
            steps.append("the rest of the section")
        steps.append("after it")

    with pytest.raises(KeyboardInterrupt):
        command()
    assert steps == ["the rest of the section"]
    assert signal.getsignal(number) is handler


def test_an_error_of_the_section_does_not_hide_the_signal(number: signal.Signals) -> None:
    def section() -> None:
        with deferred():
            os.kill(os.getpid(), number)
            raise OSError("lost")

    with pytest.raises(KeyboardInterrupt):
        section()


def test_without_a_signal_nothing_happens() -> None:
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(OSError, match="lost"), deferred():
        raise OSError("lost")
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with deferred():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_install_no_handler() -> None:
    handler, seen = signal.getsignal(signal.SIGINT), list[object]()

    def section() -> None:
        with deferred():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=section)
    thread.start()
    thread.join()
    assert seen == [handler]
