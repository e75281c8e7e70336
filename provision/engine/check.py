"""Checks of one service on one machine, as roles declare them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from provision.engine.agent.protocol import Probe

R = TypeVar("R")


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check, in human-readable words."""

    ok: bool
    expected: str
    got: str


@dataclass(frozen=True)
class ProbeCheck(Generic[R]):
    """A check that one probe's result decides.

    Args:
        name: unique and stable, such as ``status/web-01``.
        probe: what is collected on the machine.
        judge: turns the result into a verdict.
        hint: the command to run after a failure.
    """

    name: str
    probe: Probe[R]
    judge: Callable[[R], Verdict]
    hint: str
