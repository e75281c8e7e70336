"""Measure what grows on this machine, and find log files that nothing covers."""

from __future__ import annotations

import contextlib
import glob
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, collector

LISTED = 20
"""Uncovered files that are reported at most."""


@dataclass(frozen=True)
class Size:
    """Number of matches, and bytes on the disk of all of them."""

    count: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class GrowthFacts:
    """What grows.

    Args:
        sizes: by name of the entry.
        uncovered: files in watched folders that no entry covers.
    """

    sizes: Mapping[str, Size] = field(default_factory=dict)
    uncovered: tuple[str, ...] = ()


def growth_probe(paths: Mapping[str, Sequence[str]], watched: Sequence[str]) -> Probe[GrowthFacts]:
    """What grows on a machine.

    Args:
        paths: patterns by name.
        watched: folders in which every file must match a pattern.
    """
    args = {"paths": {name: list(each) for name, each in paths.items()}, "watched": list(watched)}
    return Probe("growth", "growth", args, GrowthFacts)


@collector("growth")
def collect_growth(args: Args) -> GrowthFacts:
    """See `growth_probe`."""
    return measure(args["paths"], args["watched"])


def measure(paths: Mapping[str, Sequence[str]], watched: Iterable[str] = ()) -> GrowthFacts:
    """See `growth_probe`."""
    covered: set[str] = set()
    sizes = {}
    for name, patterns in paths.items():
        matched = matches(patterns)
        covered.update(matched)
        sizes[name] = Size(len(matched), sum(size_of(path) for path in matched))
    uncovered = [path for folder in watched for path in _files(folder, covered)]
    return GrowthFacts(sizes, tuple(sorted(uncovered)[:LISTED]))


def matches(patterns: Iterable[str]) -> list[str]:
    """The paths that match one of the patterns; each once."""
    matched: dict[str, None] = {}
    for pattern in patterns:
        matched.update(dict.fromkeys(glob.glob(pattern, recursive=True)))
    return list(matched)


def size_of(path: str) -> int:
    """Bytes that a file, or a folder with its content, occupies; 0 when it has vanished."""
    status = _status(path)
    if status is None:
        return 0
    if not stat.S_ISDIR(status.st_mode):
        return status.st_blocks * 512
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            entry = _status(os.path.join(folder, name))
            total += entry.st_blocks * 512 if entry else 0
    return total


def _status(path: str) -> os.stat_result | None:
    with contextlib.suppress(OSError):
        return os.lstat(path)
    return None


def _files(top: str, covered: set[str]) -> Iterator[str]:
    """The files below a folder with content, without covered ones and without covered folders."""
    if top in covered:
        return
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in covered]
        for name in names:
            path = os.path.join(folder, name)
            if path not in covered and size_of(path):
                yield path
