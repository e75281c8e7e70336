"""A program in an instance of `FakeIncus`: its streams are real WebSockets."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

Row = dict[str, Any]
OPEN_SECONDS = 2.0
"""Within which all streams must be open; 10 in Incus."""

STREAMS = ("control", "0", "1", "2")


class FakeProgram:
    """Writes its stdin in capital letters to stdout, and ends with status 7; tests change it.

    Args:
        mute: streams whose handshake is never answered.
        refused: streams whose handshake is refused.
        endless: it does not end by itself.
    """

    ID = "program"

    def __init__(self) -> None:
        self.mute: set[str] = set()
        self.refused: set[str] = set()
        self.endless = False
        self.result: Row = {"return": 7}
        self.request: Row = {}
        self.opened: list[str] = []
        self.killed = threading.Event()
        self._ended = threading.Event()
        self._started = threading.Event()
        self._output = b""

    def begin(self, request: Row) -> Row:
        """The operation."""
        self.request = request
        names = STREAMS if not request["interactive"] else STREAMS[:2]
        fds = {name: f"secret-{name}" for name in names}
        return {"id": self.ID, "status_code": 103, "metadata": {"fds": fds}}

    def wait(self) -> tuple[int, Row]:
        """The response to a request that waits for the operation."""
        if not self._ended.wait(0.02):
            return 500, {"type": "error", "error": "context deadline exceeded", "error_code": 500}
        return 200, {"type": "sync", "metadata": {"status_code": 200, "metadata": self.result}}

    def serve(self, secret: str, connection: socket.socket, head: bytes) -> None:
        """Serve one stream until it is closed."""
        name = secret.removeprefix("secret-")
        if name in self.mute:
            connection.settimeout(OPEN_SECONDS * 5)
            connection.recv(1)  # until the client gives up
            return
        protocol = ServerProtocol()
        protocol.receive_data(head)
        (request,) = protocol.events_received()
        assert isinstance(request, Request)
        if name in self.refused:
            protocol.send_response(protocol.reject(403, "Requestor mismatch"))
        else:
            self.opened.append(name)
            protocol.send_response(protocol.accept(request))
        _send(connection, protocol)
        if name in self.refused:
            return
        if {*self.opened} >= {*STREAMS} - {"control"}:
            self._started.set()
        handler = {"control": self._control, "0": self._stdin}.get(name, self._write)
        with contextlib.suppress(OSError):  # the client has closed the stream
            handler(name, connection, protocol)

    def _control(self, _name: str, connection: socket.socket, protocol: ServerProtocol) -> None:
        for _ in _frames(connection, protocol):
            continue
        if not self._ended.is_set():
            self.killed.set()
            self._ended.set()

    def _stdin(self, _name: str, connection: socket.socket, protocol: ServerProtocol) -> None:
        for frame in _frames(connection, protocol):
            if frame.opcode is Opcode.TEXT:
                break
            self._output += bytes(frame.data).upper()
        if self._started.wait(OPEN_SECONDS) and not self.endless:
            self._ended.set()

    def _write(self, name: str, connection: socket.socket, protocol: ServerProtocol) -> None:
        self._ended.wait()
        data: Mapping[str, bytes] = {"1": self._output, "2": b"warning"}
        protocol.send_binary(data[name])
        protocol.send_text(b"")
        time.sleep(0.05)  # the output arrives after the end of the operation
        _send(connection, protocol)
        for _ in _frames(connection, protocol):
            continue


def _send(connection: socket.socket, protocol: ServerProtocol) -> None:
    for data in protocol.data_to_send():
        if data:
            connection.sendall(data)


def _frames(connection: socket.socket, protocol: ServerProtocol) -> Any:
    """Frames until the connection is closed."""
    while data := connection.recv(65536):
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Frame):
                if event.opcode is Opcode.CLOSE:
                    _send(connection, protocol)
                    return
                yield event
        _send(connection, protocol)
