"""Messages for misspelt words: the most similar choice, and all choices."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def listed(words: Iterable[str]) -> str:
    """Words in alphabetical order, separated by commas."""
    return ", ".join(sorted(words))


def closest(word: str, choices: Iterable[str]) -> str:
    """The choice that is most similar to a misspelt word; empty if none is similar."""
    return next(iter(difflib.get_close_matches(word.lower(), list(choices), 1, 0.6)), "")


def suggestion(word: str, choices: Iterable[str]) -> str:
    """``; did you mean …?`` if a choice is similar, else empty."""
    match = closest(word, choices)
    return f"; did you mean {match}?" if match else ""


def unknown(noun: str, word: str, choices: Sequence[str]) -> str:
    """The message for a word that is not among the choices."""
    return f"unknown {noun} {word!r}{suggestion(word, choices)} ({noun}s: {listed(choices)})"
