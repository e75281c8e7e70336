"""The agent's messages in the output of an SSH channel, where other programs may print, too.

Start-up files of the shell print before the agent's first line, and programs that they leave in the
background at any time. Such noise is skipped up to a limit; a damaged message is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from provision.core import clock
from provision.engine.agent.codec import ProtocolError, decode
from provision.engine.agent.filesystem import shown_lines
from provision.engine.agent.protocol import (
    LINE_LIMIT,
    Failure,
    LogLine,
    Message,
    Ready,
    Response,
)


@cache
def ssh_errors() -> tuple[type[Exception], ...]:
    """What Paramiko raises when a connection ends; Paramiko is imported with the first one."""
    from paramiko import SSHException

    return (OSError, EOFError, SSHException)


NOISE_LIMIT = 64 * 1024
"""Bytes of one connection that are no messages and are skipped."""

QUOTED = 2000
"""Bytes of noise, or of a damaged message, that an error quotes."""


def decode_message(data: Any) -> Message:
    """A message of the agent.

    Raises:
        ProtocolError: when it is none.
    """
    kinds: dict[str, type[Message]]
    kinds = {"pid": Ready, "log": LogLine, "value": Response, "error": Failure}
    for key, kind in kinds.items():
        if isinstance(data, Mapping) and key in data:
            return decode(kind, data)
    raise ProtocolError("not a message of the agent")


class ChannelError(Exception):
    """No message can be read any more.

    Args:
        what: one line.
        received: what was printed instead, to be quoted.
        closed: whether the other end closed the channel.
    """

    def __init__(self, what: str, received: bytes = b"", *, closed: bool = False) -> None:
        super().__init__(what)
        text = received[-QUOTED:].decode("utf-8", "backslashreplace")
        self.received = shown_lines(text.strip())
        self.closed = closed


class MessageReader:
    """Reads messages from a Paramiko channel."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._buffer = bytearray()
        self._searched = 0
        self._noise = bytearray()

    def wait_until_ready(self, seconds: float) -> Ready:
        """The agent's first message; everything before it is noise.

        Raises:
            ChannelError: when it does not come.
        """
        deadline = clock.now() + seconds
        while True:
            line = self._line(deadline, NOISE_LIMIT)
            message = _parse(line)
            if isinstance(message, Ready):
                return message
            self._skip(line)

    def read(self, deadline: float, seconds: float) -> Message:
        """The next message.

        Args:
            deadline: in the time of `clock.now`; noise does not extend it.
            seconds: how long that is, for the error.

        Raises:
            ChannelError: when there is none until the deadline, or it is damaged.
        """
        while True:
            line = self._line(deadline, LINE_LIMIT, seconds)
            message = _parse(line)
            if not isinstance(message, str):
                return message
            if message:
                raise ChannelError(message, line[:QUOTED])
            self._skip(line)

    def _skip(self, line: bytes) -> None:
        if line.strip():
            self._noise += line + b"\n"
        if len(self._noise) > NOISE_LIMIT:
            what = f"another program printed more than {NOISE_LIMIT >> 10} KiB into the connection"
            raise ChannelError(what, bytes(self._noise))

    def _line(self, deadline: float, limit: int, seconds: float = 0.0) -> bytes:
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            if self._searched > limit:
                size = f"{limit >> 20} MiB" if limit >> 20 else f"{limit >> 10} KiB"
                what = f"it sent a line of more than {size}"
                raise ChannelError(what, bytes(self._buffer[:QUOTED]))
            self._receive(deadline, seconds)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    def _receive(self, deadline: float, seconds: float) -> None:
        remaining = deadline - clock.now()
        late = f"no response in {seconds:.0f} s" if seconds else "the agent does not start"
        heard = bytes(self._noise + self._buffer[:QUOTED])
        if remaining <= 0:
            raise ChannelError(late, heard)
        stopped = clock.stopped_seconds()
        try:
            self._channel.settimeout(max(0.1, remaining))
            received = self._channel.recv(1 << 16)
        except TimeoutError:
            if clock.stopped_seconds() > stopped:  # Ctrl-Z, meanwhile
                return
            raise ChannelError(late, heard) from None
        except ssh_errors() as error:
            raise ChannelError(str(error) or type(error).__name__, heard) from None
        if not received:
            raise ChannelError("the connection was closed", heard, closed=True)
        self._buffer += received


def _parse(line: bytes) -> Message | str:
    """A message; or why a line is a damaged one, and an empty text for noise."""
    ours = line.startswith(b'{"id"')
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return "it sent a damaged message" if ours else ""
    try:
        return decode_message(data)
    except (ProtocolError, RecursionError):
        known = isinstance(data, Mapping) and "id" in data
        return "it sent an unknown message" if ours or known else ""
