"""Executing the database operations of agent/requests.py on a machine."""

from __future__ import annotations

from typing import TypeVar, cast

from provision.database.agent.requests import DatabaseRequest
from provision.engine.agent.codec import decode, encode
from provision.engine.host import Host

R = TypeVar("R")

CLONE_TIMEOUT = 1200.0
"""Seconds without progress from a machine that copies all data."""

LONG_TIMEOUT = 3600.0
"""Seconds without progress from a machine that dumps, counts rows, or reads binary logs."""


def execute(host: Host, request: DatabaseRequest[R], timeout: float = 60.0) -> R:
    """Execute an operation and return its result.

    Args:
        timeout: seconds without progress, in addition to the ``seconds`` of the request.

    Raises:
        HostError: when the machine cannot be reached.
        RemoteError: when the operation fails.
    """
    timeout += getattr(request, "seconds", 0.0)
    value = host.call(request.operation, encode(request), timeout)
    return cast("R", decode(request.result, value))
