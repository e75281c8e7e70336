"""Something that this computer lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class _Described(Protocol):
    what: str
    hint: str


@dataclass(frozen=True)
class PreflightProblem:
    """Something that prevents a provider from making machines, or a warning.

    Args:
        hint: the command or the step that fixes it.
        fatal: False for a warning: the lab comes up nevertheless.
    """

    what: str
    hint: str
    fatal: bool = True

    @classmethod
    def of(cls, error: _Described) -> PreflightProblem:
        """A fatal problem with the text of an error."""
        return cls(error.what, error.hint)
