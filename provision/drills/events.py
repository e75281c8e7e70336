"""The log of drills in a lab: one JSON object per line, only appended to.

The file is ``.lab/<lab>/drills/events.jsonl``. A line that is not complete, because the controller
lost its power, is ignored. Snapshots neither hold nor replace it.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

from provision.core.atomic import write_atomically
from provision.core.files import cannot_write, read_text
from provision.core.growth import DRILL_LOG_BYTES
from provision.core.locks import file_lock

FOLDER = "drills"
FILE = "events.jsonl"

BEGINS = b'"kind": "starting"'
"""In the first line of a run."""


@dataclass(frozen=True)
class DrillEvent:
    """Something that happened in a run of a drill.

    Args:
        run: the number of the run in this lab, from 1.
        kind: such as ``started`` or ``hint``.
        time: in UTC.
    """

    run: int
    kind: str
    time: datetime
    values: Mapping[str, Any] = field(default_factory=dict)


def path(directory: Path) -> Path:
    """The log of the lab in a directory."""
    return directory / FOLDER / FILE


def read(directory: Path) -> tuple[DrillEvent, ...]:
    """All events, the oldest first."""
    events = []
    for line in (read_text(path(directory)) or "").splitlines():
        try:
            data = json.loads(line)
            time = datetime.fromisoformat(data.pop("time"))
            events.append(DrillEvent(int(data.pop("run")), str(data.pop("kind")), time, data))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # an incomplete line
    return tuple(events)


def newest_runs(log: bytes, size: int) -> bytes:
    """The end of a log with at most ``size`` bytes, from the beginning of a run.

    The last run is always complete.
    """
    lines = log.splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines) if BEGINS in line]
    lengths = list(accumulate(len(line) for line in reversed(lines)))[::-1]
    first = next((start for start in starts if lengths[start] <= size), max(starts, default=0))
    return b"".join(lines[first:])


def append(directory: Path, run: int, kind: str, **values: Any) -> DrillEvent:
    """Add an event, durably; a log that has grown too large forgets its oldest runs.

    Args:
        values: what JSON can hold.

    Raises:
        LabError: when it cannot be written.
    """
    event = DrillEvent(run, kind, datetime.now(UTC), values)
    record = {"time": event.time.isoformat(timespec="milliseconds"), "run": run, "kind": kind}
    line = json.dumps(record | values) + "\n"
    file = path(directory)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file_lock(file.with_name(".lock")):
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                size = os.lseek(descriptor, 0, os.SEEK_END)
                if size and os.pread(descriptor, 1, size - 1) != b"\n":
                    line = "\n" + line  # after an incomplete one
                _append(descriptor, line.encode(), size)
            finally:
                os.close(descriptor)
            if size > DRILL_LOG_BYTES:
                write_atomically(file, newest_runs(file.read_bytes(), DRILL_LOG_BYTES // 2))
    except OSError as error:
        raise cannot_write(file, error) from None
    return event


def _append(descriptor: int, line: bytes, size: int) -> None:
    """Write a line durably, whole or not at all.

    Args:
        size: of the file before.
    """
    try:
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    except BaseException:
        os.ftruncate(descriptor, size)
        raise
