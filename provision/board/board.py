"""The board: the labs of a room, their terminals, and the browsers that show them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from provision.board.access import BoardRoom, Gate, Seat, Visitor, visible
from provision.board.actions import Actions
from provision.board.lab_watch import LabWatch, Opener
from provision.board.limits import CONNECTIONS, CONNECTIONS_PER_TEAM
from provision.board.recording import CastMarker
from provision.board.terminals import Terminals
from provision.core.errors import LabError, UsageError
from provision.core.lab import ROOT
from provision.drills.run import DrillRun, of_lab
from provision.operations.session import open_session

RunValues = Callable[[DrillRun], Mapping[str, Any]]
"""A run as `drill.report` prints it."""


class TooManyError(LabError):
    """A team has as many connections as it may have."""


class Board:
    """One process for one room.

    Args:
        run_values: makes the rows of the class report.
        root: the checkout, whose ``.lab`` has the labs.
    """

    def __init__(
        self,
        room: BoardRoom,
        run_values: RunValues,
        root: Path = ROOT,
        opener: Opener = open_session,
    ) -> None:
        self.room, self.root = room, root
        self.gate = Gate(room)
        self.terminals = Terminals()
        self.actions = Actions(room)
        self._run_values, self._opener = run_values, opener
        self._watches: dict[str, LabWatch] = {}
        self._listeners: dict[str, set[asyncio.Event]] = {}
        self._connections: Counter[str] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- start and stop --------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to watch all labs. Called in the event loop."""
        self._loop = asyncio.get_running_loop()
        for seat in self.room.seats:
            directory = self.root / ".lab" / seat.lab
            self._watches[seat.lab] = LabWatch(
                seat, directory, self._published, self._marked, self._opener
            )

    def stop(self) -> None:
        """End all threads, connections and shells."""
        self.terminals.close_all()
        for watch in self._watches.values():
            watch.stop()

    def _published(self, watch: LabWatch) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the board is stopping
                self._loop.call_soon_threadsafe(self.notify, watch.seat.lab)

    def _marked(self, watch: LabWatch, marker: CastMarker) -> None:
        self.terminals.mark(watch.seat.lab, marker)

    def notify(self, lab: str) -> None:
        """Wake every client that shows a lab."""
        for event in self._listeners.get(lab, ()):
            event.set()

    # --- who sees what ---------------------------------------------------------------------------

    def seat(self, visitor: Visitor, team: str) -> Seat:
        """The seat of a team, if a visitor may see it; without a name, the visitor's own.

        Raises:
            UsageError: when there is no such team for the visitor.
        """
        name = team or visitor.team
        seats = list(visible(self.room, visitor))
        if not name and len(seats) == 1:
            return seats[0]
        for seat in seats:
            if seat.team == name:
                return seat
        raise UsageError(f"there is no team {name!r}")

    def watch(self, seat: Seat) -> LabWatch:
        """The watch of a lab, which continues to observe it for this client."""
        watch = self._watches[seat.lab]
        watch.keep_observing()
        return watch

    def visible_labs(self, visitor: Visitor) -> list[str]:
        """The labs that a visitor may see."""
        return [seat.lab for seat in visible(self.room, visitor)]

    @contextlib.contextmanager
    def connection(self, visitor: Visitor) -> Iterator[None]:
        """Count a WebSocket while it is open.

        Raises:
            TooManyError: when the team, or everybody, has too many.
        """
        name = "teacher" if visitor.teacher else f"team {visitor.team}"
        of_team = self._connections[name] >= CONNECTIONS_PER_TEAM and not visitor.teacher
        if of_team or self._connections.total() >= CONNECTIONS:
            raise TooManyError("too many connections: close some pages")
        self._connections[name] += 1
        try:
            yield
        finally:
            self._connections[name] -= 1

    @contextlib.contextmanager
    def listening(self, labs: list[str]) -> Iterator[asyncio.Event]:
        """An event that is set when one of these labs has changed."""
        event = asyncio.Event()
        event.set()
        for lab in labs:
            self._listeners.setdefault(lab, set()).add(event)
        try:
            yield event
        finally:
            for lab in labs:
                self._listeners[lab].discard(event)

    # --- documents -------------------------------------------------------------------------------

    def lab_document(self, seat: Seat) -> dict[str, Any]:
        """Everything that a page shows about a lab."""
        watch = self.watch(seat)
        return {
            "type": "lab",
            "now": time.time(),
            **watch.document,
            "terminals": self.terminals.values(seat.lab),
        }

    def class_document(self) -> dict[str, Any]:
        """One row per team, for the teacher."""
        rows = [self._row(self.watch(seat)) for seat in self.room.seats]
        return {"type": "class", "now": time.time(), "title": self.room.title, "teams": rows}

    def _row(self, watch: LabWatch) -> dict[str, Any]:
        document = watch.document
        drill = document.get("drill")
        scene = document.get("scene") or {}
        states = [m for layer in scene.get("layers", ()) for m in layer["machines"]]
        terminals = self.terminals.values(watch.seat.lab)
        typed = max((t["last_input"] for t in terminals), default=0)
        happened = watch.run.events[-1].time.timestamp() if watch.run else 0
        return {
            "team": watch.seat.team,
            "lab": watch.seat.lab,
            "problem": document.get("problem", ""),
            "running": sum(machine["state"] == "running" for machine in states),
            "machines": len(states),
            "problems": scene.get("problems", []),
            "alerts": len(scene.get("alerts") or ()),
            "drill": drill and {k: v for k, v in drill.items() if k not in ("story", "lesson")},
            "testing": document.get("testing", ""),
            "activity": document.get("activity"),
            "recording": document.get("recording", False),
            "terminals": terminals,
            "active": max(typed, round(happened)),
        }

    def report(self) -> list[Mapping[str, Any]]:
        """All runs of all labs, as `drill.report` has them, with the lab's name. Blocks."""
        rows: list[Mapping[str, Any]] = []
        for seat in self.room.seats:
            for run in of_lab(self.root / ".lab" / seat.lab):
                values = dict(self._run_values(run))
                rows.append({**values, "lab": seat.lab, "team": values.get("team") or seat.team})
        return rows
