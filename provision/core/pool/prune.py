"""The bound of the package pool: what it needs no more is removed, the oldest first.

The first to go is what no recorded package list names: older versions of packages, and older
lists. If that is not enough, packages go that no recorded installation needs, such as those that a
user installed on a machine. What `lab.prefetch` relies on stays: the files of every recorded
installation (see `run.record`), and the current lists.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import lzma
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from provision.core.growth import POOL_BYTES
from provision.core.pool import store as stored

IN_USE_SECONDS = 3600
"""A file that was recorded within this time may belong to an installation that still runs."""

_HASH = re.compile(rb"^ ([0-9a-f]{32,128}) +\d+ ", re.MULTILINE)
_FILENAME = re.compile(rb"^Filename: *(?:\./)?(\S+)", re.MULTILINE)
_XZ, _GZIP = b"\xfd7zXZ\x00", b"\x1f\x8b"


@dataclass(frozen=True)
class Recorded:
    """A file of the pool.

    Args:
        name: below the pool, as it is stored.
        since: when it was recorded; seconds since the epoch.
    """

    name: str
    path: Path
    size: int
    since: float


def prune(folder: Path, limit: int = POOL_BYTES) -> tuple[Recorded, ...]:
    """Remove the oldest unneeded files of a pool until it is within its bound.

    Returns:
        The removed files.
    """
    _remove_partial(folder)
    files = _files(folder)
    excess = sum(file.size for file in files) - limit
    if excess <= 0:
        return ()
    removed = []
    for file in sorted_by_need(folder, files):
        if excess <= 0:
            break
        with contextlib.suppress(OSError):
            file.path.unlink()
            excess -= file.size
            removed.append(file)
    _remove_incomplete_sets(folder)
    return tuple(removed)


def sorted_by_need(folder: Path, files: Iterable[Recorded]) -> list[Recorded]:
    """The files that may be removed, the least needed first."""
    listed, unknown = _listed(folder)
    needed = _needed(folder)
    before = time.time() - IN_USE_SECONDS
    candidates = []
    for file in files:
        archive, _, path = file.name.partition("/")
        current = stored.plain(file.name) in listed or archive in unknown
        if current and (file.name in needed or path.startswith("dists/")):
            continue
        if file.since > before:
            continue
        candidates.append((current, file.since, file))
    return [file for _, _, file in sorted(candidates, key=lambda item: item[:2])]


def _files(folder: Path) -> list[Recorded]:
    files = []
    for name, path in stored.files(folder):
        with contextlib.suppress(OSError):
            status = path.stat()
            files.append(Recorded(name, path, status.st_size, status.st_ctime))
    return files


def _listed(folder: Path) -> tuple[set[str], set[str]]:
    """The names of lists and packages that the recorded lists name.

    Returns:
        the names, and the archives of which a list cannot be read.
    """
    listed: set[str] = set()
    unknown: set[str] = set()
    for archive in (path for path in folder.glob("*") if not path.name.startswith(".")):
        hashes = _hashes(archive)
        for path in archive.glob("dists/**/*"):
            name = path.relative_to(folder).as_posix()
            if not path.is_file() or ("/by-hash/" in name and path.name not in hashes):
                continue
            listed.add(stored.plain(name))
            packages = _packages(path)
            if packages is None:
                unknown.add(archive.name)
            else:
                listed |= {f"{archive.name}/{package}" for package in packages}
    return listed, unknown


def _hashes(archive: Path) -> set[str]:
    """The hashes of all lists that the archive's signed lists name."""
    hashes: set[str] = set()
    for pattern in ("dists/**/InRelease", "dists/**/Release"):
        for path in archive.glob(pattern):
            hashes.update(value.decode() for value in _HASH.findall(path.read_bytes()))
    return hashes


def _packages(path: Path) -> Iterator[str] | None:
    """The packages that a list names, by their path in the archive; None when it is unreadable."""
    try:
        with path.open("rb") as raw:
            start = raw.read(6)
            raw.seek(0)
            stream: IO[bytes] = raw
            if start == _XZ:
                stream = lzma.open(raw)  # noqa: SIM115
            elif start[:2] == _GZIP:
                stream = gzip.open(raw)  # type: ignore[assignment]  # noqa: SIM115
            data = stream.read()
    except (OSError, EOFError, lzma.LZMAError):
        return None
    return (name.decode("utf-8", "replace") for name in _FILENAME.findall(data))


def _sets(folder: Path) -> Mapping[Path, tuple[str, ...]]:
    """The stored names of the files of each recorded installation."""
    sets = {}
    for path in (folder / stored.SETS).glob("*.json"):
        with contextlib.suppress(OSError, ValueError):
            names = json.loads(path.read_text(encoding="utf-8"))
            sets[path] = tuple(map(stored.encoded, names))
    return sets


def _needed(folder: Path) -> set[str]:
    return {name for names in _sets(folder).values() for name in names}


def _remove_incomplete_sets(folder: Path) -> None:
    """Forget installations of former versions: the pool cannot replay them any more."""
    for path, names in _sets(folder).items():
        if any(not (folder / name).is_file() for name in names):
            path.unlink(missing_ok=True)


def _remove_partial(folder: Path) -> None:
    """Remove what killed downloads have left."""
    before = time.time() - IN_USE_SECONDS
    for path in (folder / stored.PARTIAL).glob("*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < before:
                path.unlink()
