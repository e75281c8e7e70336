"""Which machines are off because their power was cut: ``.lab/<lab>/killed``, one name per line.

A provider only knows that a machine is off. What runs again is no longer in the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from provision.core.atomic import write_atomically
from provision.core.files import read_text

FILE = "killed"


def record(directory: Path, name: str) -> None:
    """The power of a machine was cut."""
    _write(directory, {*_names(directory), name})


def forget(directory: Path, names: Iterable[str]) -> None:
    """Machines were started, or shut down."""
    before = _names(directory)
    if before & set(names):
        _write(directory, before - set(names))


def with_killed(directory: Path, states: Mapping[str, str]) -> dict[str, str]:
    """The provider's states, with ``killed`` for machines that are off because of a power cut."""
    cut = _names(directory)
    return {
        name: "killed" if state == "halted" and name in cut else state
        for name, state in states.items()
    }


def _names(directory: Path) -> set[str]:
    return set((read_text(directory / FILE) or "").split())


def _write(directory: Path, names: Iterable[str]) -> None:
    write_atomically(directory / FILE, "".join(f"{name}\n" for name in sorted(names)), 0o644)
