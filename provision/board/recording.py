"""Recordings of terminals: asciicast v2, one JSON value per line, under the lab's directory.

Only output is recorded. Input appears only where the machine echoes it, so a password that is typed
without echo is in no file. Markers show when a drill started, a hint was given, a proof held.
"""

from __future__ import annotations

import codecs
import json
import os
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from provision.board.limits import RECORDING_BYTES
from provision.core.growth import RECORDINGS_BYTES, RECORDINGS_KEPT
from provision.core.retention import keep_newest

FOLDER = "recordings"
SWITCH = "on"
"""A file in the folder; terminals are recorded while it exists."""

SUFFIX = ".cast"


def folder(directory: Path) -> Path:
    """Where the recordings of a lab are."""
    return directory / FOLDER


def is_on(directory: Path) -> bool:
    """Whether the teacher has turned recording on."""
    return (folder(directory) / SWITCH).exists()


def switch(directory: Path, on: bool) -> None:
    """Turn recording on or off.

    Raises:
        OSError: when the folder cannot be written.
    """
    path = folder(directory) / SWITCH
    if on:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    else:
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class CastMarker:
    """Something that happened during a recording.

    Args:
        run: number of the drill's run.
        text: such as ``hint 1``.
    """

    run: int
    text: str

    @property
    def label(self) -> str:
        """Its text in the file."""
        return f"run {self.run}: {self.text}"


class Cast:
    """A recording in progress. Its methods may be called in any thread, and never raise.

    Args:
        size: columns and rows.
    """

    def __init__(self, directory: Path, machine: str, number: int, size: tuple[int, int]) -> None:
        self.problem = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._bytes = 0
        self._file: TextIO | None = None
        moment = datetime.now(UTC)
        self.path = folder(directory) / f"{moment:%Y%m%dT%H%M%S}-{machine}-{number}{SUFFIX}"
        header = {
            "version": 2,
            "width": size[0],
            "height": size[1],
            "timestamp": int(moment.timestamp()),
            "title": machine,
            "env": {"TERM": "xterm-256color"},
        }
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = _create(self.path)
            keep_newest(
                self.path.parent.glob(f"*{SUFFIX}"),
                RECORDINGS_KEPT,
                RECORDINGS_BYTES - RECORDING_BYTES,
            )
        except OSError as error:
            self._stop(error.strerror or str(error))
            return
        self._write(header)

    def output(self, data: bytes) -> bool:
        """Record output; False when the recording has ended."""
        text = self._decoder.decode(data)
        return self._event("o", text) if text else self._file is not None

    def resize(self, size: tuple[int, int]) -> bool:
        """Record a new size."""
        return self._event("r", f"{size[0]}x{size[1]}")

    def mark(self, marker: CastMarker) -> bool:
        """Record a marker."""
        return self._event("m", marker.label)

    def close(self) -> None:
        """End the recording."""
        self._stop(self.problem)

    def _event(self, kind: str, value: str) -> bool:
        return self._write([round(time.monotonic() - self._begun, 6), kind, value])

    def _write(self, value: Any) -> bool:
        line = json.dumps(value, ensure_ascii=False) + "\n"
        with self._lock:
            if self._file is None:
                return False
            self._bytes += len(line)
            if self._bytes > RECORDING_BYTES:
                problem = f"it has reached {RECORDING_BYTES // 1024 // 1024} MiB"
            else:
                try:
                    self._file.write(line)
                    self._file.flush()
                    return True
                except (OSError, UnicodeEncodeError) as error:
                    problem = getattr(error, "strerror", None) or str(error)
        self._stop(problem)
        return False

    def _stop(self, problem: str) -> None:
        with self._lock:
            self.problem = problem
            file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                self.problem = self.problem or error.strerror or str(error)


def _create(path: Path) -> TextIO:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return os.fdopen(number, "w", encoding="utf-8", errors="replace", newline="\n")
