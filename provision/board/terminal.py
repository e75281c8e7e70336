"""A terminal in the page: a login shell on a machine, over SSH, that outlives a lost connection.

A thread reads the shell's output into a bounded buffer. Browsers come and go; each tells what it
has shown. When none has shown the last output, the thread stops reading, and the program on the
machine waits as it does on any terminal that does not read.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from provision.board.limits import AHEAD_BYTES, CHUNK_BYTES, WINDOW_BYTES
from provision.board.recording import Cast
from provision.board.scrollback import Scrollback
from provision.core.endpoint import Endpoint
from provision.core.errors import HostError, LabError
from provision.engine import ssh

TERM = "xterm-256color"
SEND_SECONDS = 10.0
"""In which a machine must take what is typed."""

SSH_WINDOW = 128 * 1024
"""Bytes that the machine may send before they are read (RFC 4254, 5.2)."""

Size = tuple[int, int]
"""Columns and rows."""


def clamped(columns: Any, rows: Any) -> Size:
    """A size that programs can handle, whatever a browser asks for."""
    try:
        return min(max(int(columns), 10), 500), min(max(int(rows), 3), 200)
    except (TypeError, ValueError, OverflowError):
        return 80, 24


@dataclass(eq=False)
class Viewer:
    """A browser that shows a terminal.

    Args:
        position: of the next byte to send.
        shown: position up to which the browser has shown the output.
        teacher: whether it belongs to the teacher, who only watches unless invited.
    """

    teacher: bool
    position: int = 0
    shown: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class PageTerminal:
    """One shell on one machine. Its methods run in the event loop unless they say otherwise."""

    def __init__(self, lab: str, machine: str, number: int, size: Size) -> None:
        self.id = secrets.token_urlsafe(18)
        self.lab, self.machine, self.number = lab, machine, number
        self.size = size
        self.invited = False
        self.ended = ""
        self.notice = ""
        self.idle_since = time.monotonic()
        self.last_input = 0.0
        self.viewers: list[Viewer] = []
        self.cast: Cast | None = None
        self._scrollback = Scrollback()
        self._connection: Any = None
        self._channel: Any = None
        self._loop = asyncio.get_running_loop()
        self._may_read = threading.Condition()
        self._closed = False
        self._received = self._seen = 0

    # --- the machine's side ----------------------------------------------------------------------

    def connect(self, endpoint: Endpoint) -> None:
        """Log in and start the shell. Blocks: call it in a thread.

        Raises:
            HostError: when the machine is unreachable or refuses the login.
        """
        import paramiko

        self._connection = ssh.connect(self.machine, endpoint)
        try:
            transport = self._connection.transport
            channel = transport.open_session(window_size=SSH_WINDOW, timeout=ssh.CONNECT_TIMEOUT)
            channel.get_pty(term=TERM, width=self.size[0], height=self.size[1])
            channel.invoke_shell()
        except (paramiko.SSHException, OSError, EOFError) as error:
            self._connection.close()
            raise HostError(
                f"{self.machine}: no terminal ({error or type(error).__name__})",
                f"invoke lab.ssh {self.machine}",
            ) from None
        self._channel = channel
        name = f"terminal {self.machine}"
        threading.Thread(target=self._read, name=name, daemon=True).start()

    def _read(self) -> None:
        ended = ""
        try:
            while not self._closed:
                with self._may_read:
                    while self._is_ahead() and not self._closed:
                        self._may_read.wait(1.0)
                data = self._channel.recv(CHUNK_BYTES)
                if not data:
                    break
                self._received += len(data)
                self._write_cast(data)
                self._in_loop(self._append, data)
        except Exception as error:
            ended = f"the connection to {self.machine} was lost ({error or type(error).__name__})"
        if not ended:
            lost = f"the connection to {self.machine} was lost"
            ended = "the shell has ended" if self._channel.eof_received else lost
        self._in_loop(self._end, ended)
        self._connection.close()

    def _in_loop(self, function: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the board is stopping
            self._loop.call_soon_threadsafe(function, *args)

    def _is_ahead(self) -> bool:
        """Whether more output was read than any learner's browser has shown."""
        shown = [viewer.shown for viewer in tuple(self.viewers) if not viewer.teacher]
        self._seen = max(shown, default=self._seen)
        return self._received - self._seen > AHEAD_BYTES

    def _write_cast(self, data: bytes) -> None:
        cast = self.cast
        if cast is not None and not cast.output(data):
            self.cast = None
            self._in_loop(self._notify, f"the recording has ended: {cast.problem}")

    def _append(self, data: bytes) -> None:
        self._scrollback.append(data)
        self.wake()

    def _notify(self, notice: str) -> None:
        self.notice = notice
        self.wake()

    def _end(self, text: str) -> None:
        self.ended = self.ended or text
        self.idle_since = time.monotonic()
        if self.cast is not None:
            self.cast.close()
        self.wake()

    # --- the browsers' side ----------------------------------------------------------------------

    def attach(self, viewer: Viewer, position: int) -> None:
        """Show the terminal in a browser, from a position on."""
        viewer.position = viewer.shown = min(max(position, self._scrollback.start), self.end)
        self.viewers.append(viewer)
        self._shown()
        self.wake()

    def detach(self, viewer: Viewer) -> None:
        """The browser is gone."""
        with contextlib.suppress(ValueError):
            self.viewers.remove(viewer)
        self.idle_since = time.monotonic()
        self.wake()

    @property
    def end(self) -> int:
        """The position after the last output."""
        return self._scrollback.end

    @property
    def watched(self) -> bool:
        """Whether the teacher has it open."""
        return any(viewer.teacher for viewer in self.viewers)

    def next_output(self, viewer: Viewer) -> tuple[int, bytes]:
        """The next output for a browser, and its position; empty when it has to wait."""
        if viewer.position - viewer.shown >= WINDOW_BYTES:
            return viewer.position, b""
        position, data = self._scrollback.read(viewer.position, CHUNK_BYTES)
        viewer.position = position + len(data)
        return position, data

    def acknowledge(self, viewer: Viewer, position: Any) -> None:
        """A browser has shown the output up to a position."""
        if isinstance(position, int) and viewer.shown < position <= viewer.position:
            viewer.shown = position
            viewer.wake.set()
            self._shown()

    def _shown(self) -> None:
        with self._may_read:
            self._may_read.notify_all()

    def wake(self) -> None:
        """Something has changed for the browsers."""
        for viewer in self.viewers:
            viewer.wake.set()

    def may_type(self, viewer: Viewer) -> bool:
        """Whether a browser's input reaches the shell."""
        return not self.ended and (self.invited or not viewer.teacher)

    async def type(self, text: str) -> None:
        """Send input to the shell; it is never recorded."""
        self.last_input = time.time()
        data = text.encode("utf-8", errors="replace")
        try:
            await asyncio.to_thread(self._send, data)
        except (OSError, EOFError) as error:
            self._notify(f"input was not taken ({error or type(error).__name__})")

    def _send(self, data: bytes) -> None:
        self._channel.settimeout(None)
        deadline = time.monotonic() + SEND_SECONDS
        while data:
            if self._channel.send_ready():
                data = data[self._channel.send(data) :]
            elif time.monotonic() > deadline or self._channel.closed:
                raise OSError("the machine does not read it")
            else:
                time.sleep(0.02)

    async def resize(self, size: Size) -> None:
        """Tell the programs on the machine that the terminal has another size."""
        if size == self.size or self.ended:
            return
        self.size = size
        if self.cast is not None:
            self.cast.resize(size)
        with contextlib.suppress(Exception):  # a lost connection is noticed by the reader
            await asyncio.to_thread(self._channel.resize_pty, *size)
        self.wake()

    def close(self, reason: str = "it was closed") -> None:
        """End the shell."""
        self._closed = True
        self.ended = self.ended or reason
        self._shown()
        if self._channel is not None:
            with contextlib.suppress(Exception):
                self._channel.close()
        if self.cast is not None:
            self.cast.close()
        self.wake()


class NoTerminalError(LabError):
    """There is no such terminal, or no further one is allowed."""
