"""All terminals of a board: opened for a team, found by their id, closed when no client returns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from typing import Any

from provision.board import recording
from provision.board.lab_watch import LabWatch
from provision.board.limits import CONNECTIONS_PER_TERMINAL, KEPT_SECONDS, TERMINALS_PER_LAB
from provision.board.recording import Cast, CastMarker
from provision.board.terminal import NoTerminalError, PageTerminal, Size

ENDED_SECONDS = 60.0
"""For which a terminal that has ended is kept without a browser."""

REAP_SECONDS = 5.0


class Terminals:
    """The terminals of all labs. Its methods are called in the event loop."""

    def __init__(self) -> None:
        self._terminals: dict[str, PageTerminal] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._opening: dict[str, int] = {}

    async def open(self, watch: LabWatch, machine: str, size: Size) -> PageTerminal:
        """A new terminal on a machine of a lab.

        Raises:
            LabError: when the machine cannot be reached, or the lab has too many terminals.
        """
        lab = watch.seat.lab
        opening = self._opening.get(lab, 0)
        if len(list(self.of_lab(lab))) + opening >= TERMINALS_PER_LAB:
            raise NoTerminalError(
                f"lab {lab} has {TERMINALS_PER_LAB} terminals already", "close one of them"
            )
        self._opening[lab] = opening + 1
        try:
            endpoint = await asyncio.to_thread(watch.endpoint, machine)
            number = self._numbers[lab, machine] = self._numbers.get((lab, machine), 0) + 1
            terminal = PageTerminal(lab, machine, number, size)
            if recording.is_on(watch.directory):
                self._record(terminal, watch)
            await asyncio.to_thread(terminal.connect, endpoint)
        finally:
            self._opening[lab] -= 1
        self._terminals[terminal.id] = terminal
        return terminal

    def find(self, identity: str, labs: Iterable[str]) -> PageTerminal:
        """The terminal with an id, of one of these labs.

        Raises:
            NoTerminalError: when there is none, or it belongs to another team: the message is the
                same.
        """
        terminal = self._terminals.get(identity)
        if terminal is None or terminal.lab not in set(labs):
            raise NoTerminalError("there is no such terminal any more")
        return terminal

    def of_lab(self, lab: str) -> Iterator[PageTerminal]:
        """The terminals of a lab that have not ended, the oldest first."""
        return (t for t in self._terminals.values() if t.lab == lab and not t.ended)

    def require_room(self, terminal: PageTerminal) -> None:
        """Refuse a further browser at a terminal that many show already.

        Raises:
            NoTerminalError: when there are too many.
        """
        if len(terminal.viewers) >= CONNECTIONS_PER_TERMINAL:
            raise NoTerminalError("too many browsers show this terminal")

    def values(self, lab: str) -> list[dict[str, Any]]:
        """The terminals of a lab for the page."""
        return [
            {
                "id": terminal.id,
                "machine": terminal.machine,
                "number": terminal.number,
                "invited": terminal.invited,
                "watched": terminal.watched,
                "recorded": terminal.cast is not None,
                "last_input": round(terminal.last_input),
            }
            for terminal in self.of_lab(lab)
        ]

    # --- recording -------------------------------------------------------------------------------

    def set_recording(self, watch: LabWatch, on: bool) -> None:
        """Turn the recording of a lab on or off, also in terminals that are open.

        Raises:
            OSError: when the folder cannot be written.
        """
        recording.switch(watch.directory, on)
        for terminal in self.of_lab(watch.seat.lab):
            if on and terminal.cast is None:
                self._record(terminal, watch)
            elif not on and terminal.cast is not None:
                terminal.cast.close()
                terminal.cast = None
            terminal.wake()

    def _record(self, terminal: PageTerminal, watch: LabWatch) -> None:
        cast = Cast(watch.directory, terminal.machine, terminal.number, terminal.size)
        if cast.problem:
            terminal.notice = f"this terminal is not recorded: {cast.problem}"
            return
        run = watch.run
        if run is not None and run.ended is None:
            cast.mark(CastMarker(run.number, f"the recording of {run.drill} begins"))
        terminal.cast, terminal.notice = cast, ""

    def mark(self, lab: str, marker: CastMarker) -> None:
        """Write a marker into all recordings of a lab. May be called in any thread."""
        for terminal in tuple(self._terminals.values()):
            cast = terminal.cast
            if terminal.lab == lab and cast is not None:
                cast.mark(marker)

    # --- the end ---------------------------------------------------------------------------------

    async def reap(self) -> None:
        """Close terminals to which no client returns, until cancelled."""
        while True:
            await asyncio.sleep(REAP_SECONDS)
            for terminal in tuple(self._terminals.values()):
                idle = time.monotonic() - terminal.idle_since
                if terminal.viewers or idle < (ENDED_SECONDS if terminal.ended else KEPT_SECONDS):
                    continue
                self.close(terminal)

    def close(self, terminal: PageTerminal) -> None:
        """End a terminal and forget it."""
        terminal.close()
        self._terminals.pop(terminal.id, None)

    def close_all(self) -> None:
        """End all terminals: the board stops."""
        for terminal in tuple(self._terminals.values()):
            self.close(terminal)
