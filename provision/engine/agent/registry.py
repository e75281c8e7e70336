"""What a machine can do by name: collect facts, perform actions of a unit, run operations.

A module of the agent registers its functions by decorator when it is imported. Names are those of
``Probe.kind``, ``Action.do`` and ``Host.call``. The payload (``engine/payload.py``) says which
module registers a name, so that a machine imports a module only when it is needed.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from provision.engine.agent.process import AgentError

Args = Mapping[str, Any]
"""Arguments as JSON."""

F = TypeVar("F", bound=Callable[..., Any])

REGISTERED: dict[str, Callable[..., Any]] = {}
"""By ``action NAME``, ``collector KIND`` or ``operation NAME``."""

MODULES: dict[str, str] = {}
"""By the same keys, the module whose import registers the function."""


SINGLE: set[str] = set()
"""Kinds whose collector takes one probe; the others take all probes of a gather at once."""


def collector(kind: str) -> Callable[[F], F]:
    """Register a function that collects the result of one probe, a frozen dataclass."""

    def register(collect: F) -> F:
        def collect_each(batch: Sequence[Args]) -> list[Any]:
            return [_result_or_error(collect, args) for args in batch]

        _register(f"collector {kind}", collect_each)
        SINGLE.add(kind)
        return collect

    return register


def _result_or_error(collect: Callable[..., Any], args: Args) -> Any:
    try:
        return collect(args)
    except Exception as error:
        return error


def batch_collector(kind: str) -> Callable[[F], F]:
    """Register a function that collects the results of all probes of a kind, in their order."""
    return lambda function: _register(f"collector {kind}", function)


def is_batch(kind: str) -> bool:
    """Whether a kind's collector takes all probes at once; imports its module."""
    with contextlib.suppress(Exception):  # which every probe of the kind reports
        find(f"collector {kind}")
    return kind not in SINGLE


def action(name: str) -> Callable[[F], F]:
    """Register one step of a unit: ``(args, journal, log)``; it keeps files in the journal."""
    return lambda function: _register(f"action {name}", function)


def operation(name: str) -> Callable[[F], F]:
    """Register ``(args, log)``, called by name; its result is JSON or a frozen dataclass."""
    return lambda function: _register(f"operation {name}", function)


def _register(key: str, function: F) -> F:
    if key in REGISTERED:
        raise ValueError(f"{key} is registered twice")
    REGISTERED[key] = function
    return function


def find(key: str) -> Callable[..., Any]:
    """The function that is registered under a key, such as ``action write``.

    Raises:
        AgentError: when there is none.
    """
    if key not in REGISTERED and key in MODULES:
        importlib.import_module(MODULES[key])
    if key not in REGISTERED:
        raise AgentError(f"this machine knows no {key}")
    return REGISTERED[key]
