"""Play a recording in a terminal."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

from provision.board.casts import CastEvent, RecordedTerminal

LONGEST_PAUSE = 2.0
"""Seconds; longer pauses of the recording are shortened."""

# Control strings (ECMA-48, 5.6: OSC, DCS, APC, PM, SOS) can set the title, the clipboard or the
# keys of the terminal that shows them; what moves the cursor and sets colors is CSI.
CONTROL_STRING = re.compile(
    "(?:\x1b[\\]P_^X]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\\\|\x9c|(?=\x1b))"
)
UNFINISHED = re.compile("(?:\x1b[\\]P_^X]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*$|\x1b$")
ANSWERED = re.compile("\x1b\\[[?>=]?[0-9;]*[cn]|\x1b\\[[0-9;]*t|\x05|\x1bZ")
"""Requests to which a terminal answers as if somebody had typed."""


class SafeOutput:
    """Removes sequences that would change the terminal that plays a recording."""

    def __init__(self) -> None:
        self._pending = ""

    def filter(self, text: str) -> str:
        """The text without control strings; one that is not complete yet is kept back."""
        text = self._pending + text
        match = UNFINISHED.search(text)
        self._pending = text[match.start() :][:65536] if match else ""
        text = text[: match.start()] if match else text
        return ANSWERED.sub("", CONTROL_STRING.sub("", text))


def frames(cast: RecordedTerminal, run: int) -> Iterator[tuple[float, CastEvent]]:
    """The events of a run, each with the seconds to wait before it.

    What the terminal showed before the run comes at once, so that the screen is complete.
    """
    start, end = cast.of_run(run)
    last = start
    for event in cast.events:
        if event.time > end:
            return
        pause = min(max(0.0, event.time - last), LONGEST_PAUSE) if event.time > start else 0.0
        last = max(last, event.time)
        yield pause, event


def play(
    cast: RecordedTerminal,
    run: int,
    speed: float,
    write: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Write the output of a run as it came.

    Args:
        speed: 2 is twice as fast.
    """
    safe = SafeOutput()
    for pause, event in frames(cast, run):
        if pause:
            sleep(pause / speed)
        if event.kind == "o":
            write(safe.filter(event.value))
        elif event.kind == "m":
            write(f"\x1b[0m\r\n\x1b[7m {event.value} \x1b[0m\r\n")
    write("\x1b[0m\r\n")
