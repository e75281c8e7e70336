"""Progress of long work: one live row per machine on a terminal, plain lines otherwise."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from provision.commands import signals, tables

if TYPE_CHECKING:
    from provision.commands.tables import Grid

LAYOUT = tables.layout(
    "progress",
    tables.Column("MACHINE"),
    tables.Column("STEP", prose=True, least=12),
    tables.Column("DURATION", 1, right=True),
    header=False,
)


class Progress:
    """A `Report` on stderr that shows the current step of every machine and its duration.

    Lines have the seconds since the first progress of the command, so that they only grow. What
    remains on the screen in the end has no durations: no step runs any more.
    """

    _begun: float | None = None

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live: Any = None
        self._rows: dict[str, tuple[str, float]] = {}
        self._printed: dict[str, str] = {}
        self._lock = threading.Lock()
        if Progress._begun is None:
            Progress._begun = time.monotonic()
        self._started = Progress._begun
        self._ended = False

    def __enter__(self) -> Progress:
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not self._quiet:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(stderr=True),
                get_renderable=self._table,
                refresh_per_second=8,
                transient=False,
            )
            self._live.start()
            signals.cursor_hidden(True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._ended = True
            self._live.stop()
            self._live = None
            signals.cursor_hidden(False)

    def __call__(self, machine: str, doing: str) -> None:
        """Show the current step of a machine."""
        with self._lock:
            self._rows[machine] = (doing, time.monotonic())
            if self._live is None and not self._quiet and self._printed.get(machine) != doing:
                seconds = time.monotonic() - self._started
                print(f"{seconds:6.1f}s  {machine:<8} {doing}", file=sys.stderr, flush=True)
            self._printed[machine] = doing

    def _table(self) -> Grid:
        from rich.text import Text

        rows = []
        now = time.monotonic()
        with self._lock:
            for machine, (doing, since) in self._rows.items():
                duration = "" if self._ended else f"{now - since:.0f} s"
                rows.append((Text(machine, "bold"), Text(doing), Text(duration, "dim")))
        return tables.Grid(LAYOUT, rows)
