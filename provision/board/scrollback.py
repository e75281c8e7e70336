"""The last output of a terminal: bytes with positions that count from its beginning."""

from __future__ import annotations

from provision.board.limits import SCROLLBACK_BYTES


class Scrollback:
    """A bounded buffer. One thread appends; readers name the position from which they read."""

    def __init__(self, size: int = SCROLLBACK_BYTES) -> None:
        self._size = size
        self._data = bytearray()
        self.start = 0

    @property
    def end(self) -> int:
        """The position after the last byte."""
        return self.start + len(self._data)

    def append(self, data: bytes) -> None:
        """Add output; the oldest is dropped, up to the end of a line."""
        self._data += data
        surplus = len(self._data) - self._size
        if surplus > 0:
            line_end = self._data.find(b"\n", surplus, surplus + 4096)
            surplus = line_end + 1 if line_end >= 0 else surplus
            del self._data[:surplus]
            self.start += surplus

    def read(self, position: int, limit: int) -> tuple[int, bytes]:
        """Output from a position on, or from the oldest that is kept.

        Returns:
            Where it starts, and at most ``limit`` bytes; empty when there is no more.
        """
        position = min(max(position, self.start), self.end)
        offset = position - self.start
        return position, bytes(self._data[offset : offset + limit])
