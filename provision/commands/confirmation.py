"""Ask before something is lost."""

from __future__ import annotations

import sys

from provision.core.errors import UsageError

AGREEMENT = ("y", "yes")


def confirmed(
    question: str, yes: bool, *, refused: str = "", hint: str = "pass --yes to confirm"
) -> bool:
    """Ask, unless it is confirmed on the command line; whether the user agrees.

    Args:
        question: such as ``rebuild web-01?``.
        refused: the error when standard input is no terminal.

    Raises:
        UsageError: when standard input is no terminal.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(refused or f"not confirmed: {question}", hint)
    return input(f"{question} [y/N] ").strip().lower() in AGREEMENT
