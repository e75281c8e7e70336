"""What is there of a lab on this host: machines, half-made ones, snapshots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from provision.providers.lxc import places
from provision.providers.lxc.machine import SOCKETS, running
from provision.providers.lxc.privileged import run


@dataclass(frozen=True)
class Inventory:
    """A lab's folder, as it was a moment ago.

    Args:
        machines: those that are complete, and so may have data.
        partial: folders of machines whose making was cut off.
        interrupted: machines in which a restore was cut off.
        snapshots: by name, the machines that are in it.
        running: the machines that run.
    """

    machines: frozenset[str] = frozenset()
    partial: frozenset[str] = frozenset()
    interrupted: frozenset[str] = frozenset()
    snapshots: tuple[tuple[str, frozenset[str]], ...] = ()
    running: frozenset[str] = frozenset()


def look(at: places.Places) -> Inventory:
    """What there is of a lab."""
    if not at.directory.exists():
        return Inventory()
    # A machine's root file system begins at the second level; only snapshots go to the third.
    depth = ["-mindepth", "1", "-maxdepth", "2", "-printf", "%y %P\\n"]
    found = run("reading a lab's folder", ["find", at.directory, *depth], ok=(0, 1)).out
    kept = ["-mindepth", "2", "-maxdepth", "2", "-printf", f"d {places.SNAPSHOTS}/%P\\n"]
    if f"d {places.SNAPSHOTS}\n" in found:
        found += run("reading snapshots", ["find", at.snapshots, *kept], ok=(0, 1)).out
    return understand(found.splitlines(), running(at, SOCKETS.read_text()))


def understand(lines: Iterable[str], now: frozenset[str]) -> Inventory:
    """The inventory that such lines describe.

    Args:
        lines: ``d web-01``, ``f web-01/config`` …: find's type and path of each entry.
        now: the machines that run.
    """
    folders: dict[str, set[str]] = {}
    kept: dict[str, set[str]] = {}
    for line in lines:
        kind, _, path = line.partition(" ")
        first, *rest = path.split("/")
        if first == places.SNAPSHOTS:
            if rest and not rest[0].startswith("."):
                kept.setdefault(rest[0], set()).update(rest[1:2])
        elif kind == "d" and not rest and not first.startswith("."):
            folders.setdefault(first, set())
        elif len(rest) == 1 and not first.startswith("."):
            folders.setdefault(first, set()).add(rest[0])
    complete = {name for name, inside in folders.items() if "config" in inside}
    return Inventory(
        machines=frozenset(complete),
        partial=frozenset(set(folders) - complete),
        interrupted=frozenset(
            name for name in complete if folders[name] & {"delta.old", "delta.new"}
        ),
        snapshots=tuple(sorted((name, frozenset(inside)) for name, inside in kept.items())),
        running=now,
    )
