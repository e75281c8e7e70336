"""What the guard and the witness have in common as processes: a clock and a journal."""

from __future__ import annotations

import time

INFO, WARNING, ERROR, CRITICAL = 5, 4, 3, 2
"""Log levels of sd-daemon(3)."""


def boottime() -> float:
    """CLOCK_BOOTTIME in seconds: it continues while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ChangeLog:
    """Writes to the journal, one line per change: repeated messages of a topic are dropped."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def __call__(self, topic: str, text: str, level: int = INFO) -> None:
        """Write a message unless it is the topic's last one."""
        if self._last.get(topic) != text:
            self._last[topic] = text
            print(f"<{level}>{text}", flush=True)

    def clear(self, topic: str) -> None:
        """Forget a topic's last message, so that it is written when it occurs again."""
        self._last.pop(topic, None)
