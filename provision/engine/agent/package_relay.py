"""On a machine: a proxy for apt that passes each request through the SSH channel to the pool.

It listens on the loopback interface and needs no TCP forwarding, which sshd refuses in `secured`.
`engine/package_relay.py` sends this file to python3 and answers its requests. stdout carries one
JSON line per request; stdin one JSON line per response, and its content. It ends with the channel.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import sys
import threading
from typing import Any

RECORD = "/run/foobar-lab/package-proxy"
"""A running relay: its port, and settings for apt, one per line; `packages.py` reads it."""

CHUNK = 1 << 16

_turn = threading.Lock()
_responses: queue.Queue[Any] = queue.Queue(64)


def send(value: object) -> None:
    """Write one line to the controller."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def read_request(stream: Any) -> dict[str, str] | None:
    """The next HTTP request of a connection: its URL, and its header ``If-Modified-Since``."""
    words = stream.readline(CHUNK).decode("latin-1").split()
    if len(words) != 3:
        return None
    request = {"method": words[0], "url": words[1], "since": ""}
    while line := stream.readline(CHUNK).decode("latin-1").strip():
        name, _, value = line.partition(":")
        if name.lower() == "if-modified-since":
            request["since"] = value.strip()
    return request


def handle(connection: socket.socket) -> None:
    """Answer the requests of one connection of apt."""
    with contextlib.suppress(OSError), connection, connection.makefile("rb") as stream:
        while request := read_request(stream):
            with _turn:
                send(request)
                head = _responses.get()
                lines = [f"HTTP/1.1 {head['status']} {head['reason']}"]
                lines += [f"{name}: {value}" for name, value in head["headers"].items()]
                broken = write(connection, ("\r\n".join([*lines, "", ""])).encode("latin-1"))
                remaining = head["length"]
                while remaining:  # read to its end even if apt is gone, or the stream is lost
                    chunk = _responses.get()
                    remaining -= len(chunk)
                    broken = broken or write(connection, chunk)
            if broken:
                return


def write(connection: socket.socket, data: bytes) -> bool:
    """Send data to apt; True when it has closed the connection."""
    try:
        connection.sendall(data)
    except OSError:
        return True
    return False


def accept(listener: socket.socket) -> None:
    """Serve connections of this machine."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=handle, args=(connection,), daemon=True).start()


def main(options: list[str]) -> None:
    """Relay until the controller closes the channel.

    Args:
        options: settings for apt, such as ``Acquire::Check-Valid-Until=false``.
    """
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    port = listener.getsockname()[1]
    os.makedirs(os.path.dirname(RECORD), exist_ok=True)
    with open(f"{RECORD}.new", "w") as file:
        file.write("\n".join([str(port), *options]) + "\n")
    os.replace(f"{RECORD}.new", RECORD)
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    send({"port": port})
    stdin: Any = sys.stdin.buffer
    try:
        while line := stdin.readline():
            head = json.loads(line)
            _responses.put(head)
            remaining = head["length"]
            while remaining:
                chunk = stdin.read1(min(CHUNK, remaining))
                if not chunk:
                    return
                remaining -= len(chunk)
                _responses.put(chunk)
    finally:
        with contextlib.suppress(OSError), open(RECORD) as file:
            if file.readline().strip() == str(port):
                os.unlink(RECORD)


if __name__ == "__main__":
    main(json.loads(sys.stdin.buffer.readline()))
