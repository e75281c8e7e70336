"""Messages for misspelt words: the most similar choice, and all choices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path


def listed(words: Iterable[str]) -> str:
    """Words in alphabetical order, separated by commas."""
    return ", ".join(sorted(words))


def closest(word: str, choices: Iterable[str]) -> str:
    """The choice that is most similar to a misspelt word; empty if none is similar."""
    import difflib  # only for a misspelt word

    by_small_letters = {choice.lower(): choice for choice in choices}
    match = difflib.get_close_matches(word.lower(), list(by_small_letters), 1, 0.6)
    return by_small_letters[match[0]] if match else ""


def suggestion(word: str, choices: Iterable[str]) -> str:
    """``; did you mean …?`` if a choice is similar, else empty."""
    match = closest(word, choices)
    return f"; did you mean {match}?" if match else ""


def similar_path(path: Path) -> str:
    """``; did you mean …?`` for a file that does not exist, if its folder has a similar name."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    match = "" if path.exists() else closest(path.name, names)
    return f"; did you mean {path.parent / match}?" if match else ""


def unknown(noun: str, word: str, choices: Sequence[str]) -> str:
    """The message for a word that is not among the choices."""
    return f"unknown {noun} {word!r}{suggestion(word, choices)} ({noun}s: {listed(choices)})"
