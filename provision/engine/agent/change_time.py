"""When the content of a path last changed: a file that a rollback restored has not changed."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping

RESTORED = "/var/lib/foobar-lab/restored.json"
"""By path: the ctime of the restored file, and when its content had last changed."""


def change_time(path: str, restored: Mapping[str, tuple[float, float]] | None = None) -> float:
    """When a path itself last changed, in seconds; 0 when there is nothing.

    Args:
        restored: the result of `restored_paths`, for many paths.

    The mtime of what packages install: in a container these files belong to an image, whose ctime
    changes with every hard link that the host makes of them. The ctime of everything else.
    """
    try:
        status = os.lstat(path)
    except OSError:
        return 0.0
    if path.startswith("/usr/lib/"):
        return status.st_mtime
    records = restored_paths() if restored is None else restored
    since, before = records.get(path, (0.0, 0.0))
    return before if status.st_ctime == since else status.st_ctime


def record_restored(times: Mapping[str, float]) -> None:
    """Record when the content of restored paths had changed (`change_time` before their change)."""
    records = {
        path: (ctime, before)
        for path, (ctime, before) in restored_paths().items()
        if path not in times and _ctime(path) == ctime
    }
    records |= {path: (ctime, before) for path, before in times.items() if (ctime := _ctime(path))}
    os.makedirs(os.path.dirname(RESTORED), exist_ok=True)
    with open(f"{RESTORED}.new", "w", encoding="utf-8") as file:
        json.dump(records, file)
    os.replace(f"{RESTORED}.new", RESTORED)


def _ctime(path: str) -> float:
    try:
        return os.lstat(path).st_ctime
    except OSError:
        return 0.0


def restored_paths() -> dict[str, tuple[float, float]]:
    """The records of `record_restored`: ctime of the restored path, time of its last change."""
    with contextlib.suppress(OSError, ValueError, TypeError), open(RESTORED, "rb") as file:
        return {
            path: (float(ctime), float(before)) for path, (ctime, before) in json.load(file).items()
        }
    return {}
