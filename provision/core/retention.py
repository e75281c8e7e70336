"""Keep the newest files of a folder, within a bound of ``provision/core/growth.py``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path


def keep_newest(paths: Iterable[Path], count: int, limit: int) -> tuple[Path, ...]:
    """Remove the oldest files until at most ``count`` files with ``limit`` bytes are left.

    The newest stays whatever its size. A file that vanishes meanwhile is no error.

    Returns:
        The removed files, the oldest first.
    """
    files = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            files.append((status.st_mtime_ns, path.name, status.st_size, path))
    files.sort(reverse=True)
    removed, total = [], 0
    for position, (_, _, size, path) in enumerate(files):
        total += size
        if position and (position >= count or total > limit):
            path.unlink(missing_ok=True)
            removed.append(path)
    return tuple(reversed(removed))


def rotate(log: Path, limit: int) -> None:
    """Let a log that exceeds ``limit`` bytes begin again; one former log is kept as ``<log>.1``.

    Raises:
        OSError: when it cannot be renamed.
    """
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > limit:
            log.replace(log.with_name(f"{log.name}.1"))
