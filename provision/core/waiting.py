"""Wait for a condition, with a deadline. Every wait of the controller goes through here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

from provision.core import clock
from provision.core.errors import LabError

T = TypeVar("T")


class Timeout(LabError):  # noqa: N818 - named like TimeoutError, without its meaning
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
        description: what is waited for, such as ``mysqld on db-01 to accept connections``.
        interval: seconds between two checks.

    Raises:
        Timeout: when the condition is still false at the deadline.
    """
    deadline = clock.now() + deadline_seconds
    while True:
        remaining = deadline - clock.now()
        value = condition()
        if value:
            return value
        if remaining <= 0:
            raise Timeout(f"timed out after {deadline_seconds:g} s waiting for {description}")
        time.sleep(max(0.0, min(interval, deadline - clock.now())))


def timeout_factor() -> float:
    """LAB_PATIENCE of the environment, by which the controller multiplies its timeouts.

    Emulated processors are about 20 times slower. At least 1; 1 for anything that is no number.
    """
    try:
        return max(1.0, float(os.environ.get("LAB_PATIENCE", "")))
    except ValueError:
        return 1.0
