"""Wait on a machine for a condition, with a deadline (the controller has core/waiting.py)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from provision.engine.agent.process import AgentError

T = TypeVar("T")


class AgentTimeoutError(AgentError):
    """A condition was not met before its deadline."""


def wait_until(
    condition: Callable[[], T | None],
    deadline_seconds: float,
    description: str,
    *,
    interval: float = 0.1,
) -> T:
    """Poll until the condition is true, and return its value.

    The condition is checked once more when the deadline has passed, so that one long check
    does not make a met condition a timeout.

    Args:
        condition: returns a false value, such as None, while there is still something to wait for.
        deadline_seconds: from now on.
        description: what is waited for, such as ``mysqld to accept connections``.
        interval: seconds between two checks.

    Raises:
        AgentTimeoutError: when the condition is still false at the deadline.
    """
    deadline = time.monotonic() + deadline_seconds
    while True:
        expired = time.monotonic() >= deadline
        value = condition()
        if value:
            return value
        if expired:
            raise AgentTimeoutError(
                f"timed out after {deadline_seconds:g} s waiting for {description}"
            )
        time.sleep(max(0.0, min(interval, deadline - time.monotonic())))
