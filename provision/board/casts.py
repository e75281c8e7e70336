"""Read recordings: which there are, which runs of drills they show, and their events."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provision.board import recording
from provision.core.errors import LabError, UsageError
from provision.core.files import read_text

NAME = re.compile(r"\d{8}T\d{6}-[a-z0-9-]+\.cast")
RUN = re.compile(r"run (\d+): ")


@dataclass(frozen=True)
class CastEvent:
    """One event: ``o`` output, ``r`` size, ``m`` marker; the time in seconds from the start."""

    time: float
    kind: str
    value: str


@dataclass(frozen=True)
class RecordedTerminal:
    """A recording.

    Args:
        start: in seconds since 1970.
        seconds: its length.
        runs: numbers of the runs that it has markers of.
    """

    path: Path
    machine: str
    start: int
    seconds: float
    width: int
    height: int
    events: tuple[CastEvent, ...]

    @property
    def runs(self) -> tuple[int, ...]:
        """The runs of drills that its markers name."""
        numbers = (RUN.match(event.value) for event in self.events if event.kind == "m")
        return tuple(dict.fromkeys(int(match[1]) for match in numbers if match))

    def of_run(self, run: int) -> tuple[float, float]:
        """The first and the last moment of a run in it, in seconds from its start."""
        prefix = f"run {run}: "
        times = [e.time for e in self.events if e.kind == "m" and e.value.startswith(prefix)]
        others = [
            e.time
            for e in self.events
            if e.kind == "m" and not e.value.startswith(prefix) and e.time > times[0]
        ]
        return times[0], others[0] if others else self.seconds

    def values(self) -> dict[str, Any]:
        """For the page."""
        return {
            "name": self.path.name,
            "machine": self.machine,
            "start": self.start,
            "seconds": round(self.seconds, 1),
            "runs": list(self.runs),
        }


def parse(path: Path, text: str) -> RecordedTerminal | None:
    """A recording; None without a header. A line that is not complete is ignored."""
    rows = list(_rows(text))
    header = rows[0] if rows else None
    if not isinstance(header, dict) or header.get("version") != 2:
        return None
    found = []
    for row in rows[1:]:
        match row:
            case [int() | float() as time, str() as kind, str() as value]:
                found.append(CastEvent(float(time), kind, value))
    return RecordedTerminal(
        path,
        str(header.get("title", "")),
        int(header.get("timestamp", 0)),
        found[-1].time if found else 0.0,
        int(header.get("width", 80)),
        int(header.get("height", 24)),
        tuple(found),
    )


def _rows(text: str) -> Iterator[Any]:
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def of_lab(directory: Path) -> list[RecordedTerminal]:
    """The recordings of a lab, the oldest first."""
    listed = []
    for path in sorted(recording.folder(directory).glob(f"*{recording.SUFFIX}")):
        cast = parse(path, read_text(path) or "")
        if cast is not None:
            listed.append(cast)
    return listed


def text_of(directory: Path, name: str) -> str:
    """The file of a recording.

    Raises:
        UsageError: when there is none of that name.
    """
    if NAME.fullmatch(name):
        text = read_text(recording.folder(directory) / name)
        if text is not None:
            return text
    raise UsageError("there is no such recording")


def of_run(directory: Path, run: int) -> list[RecordedTerminal]:
    """The recordings of a run.

    Raises:
        LabError: when there is none.
    """
    every = of_lab(directory)
    listed = [cast for cast in every if run in cast.runs]
    if not listed:
        numbers = sorted({number for cast in every for number in cast.runs})
        recorded = f"recorded runs: {', '.join(map(str, numbers))}" if numbers else ""
        raise LabError(
            f"run {run} has no recording",
            recorded or "the teacher turns recording on in the page of invoke board.serve",
        )
    return listed
