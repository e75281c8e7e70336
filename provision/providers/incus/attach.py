"""Run a program as root in an instance: ``python -m …attach RECORD INSTANCE [PROGRAM…]``.

The exit status is the program's. Without a program, a login shell on this terminal. Each stream is
a WebSocket of the API (Incus' documentation, "Instance command execution").
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect, unix_connect

from provision.core.errors import LabError, ProviderError
from provision.engine.agent.codec import decode
from provision.providers.incus.client import (
    API,
    CONNECT_SECONDS,
    IncusClient,
    tls_context,
    unreachable,
)
from provision.providers.incus.record import LabRecord

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CONTROL = "control"
"""For the size of a terminal: without one it is not opened, as the program may end before."""

BLOCK = 32768
END_SECONDS = 24 * 3600.0


def main(arguments: list[str]) -> int:
    """Run it; the result is the exit status."""
    file, instance, *argv = arguments
    record = decode(LabRecord, json.loads(Path(file).read_text(encoding="utf-8")))
    interactive = not argv or os.isatty(0)
    try:
        return run(IncusClient(record.remote), instance, argv or ["/bin/bash", "-l"], interactive)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 255


def run(client: IncusClient, instance: str, argv: list[str], interactive: bool) -> int:
    """Run a program with this process's streams.

    Args:
        interactive: on a terminal of its own.

    Raises:
        ProviderError: when Incus refuses it, or cannot be reached.
    """
    environment = {"PATH": SEARCH_PATH, "HOME": "/root", "LANG": "C.UTF-8"}
    columns, lines = shutil.get_terminal_size()
    body = {
        "command": argv,
        "environment": {**environment, "TERM": os.environ.get("TERM", "dumb")},
        "wait-for-websocket": True,
        "interactive": interactive,
        "width": columns,
        "height": lines,
        "cwd": "/root",
    }
    operation = client.start(f"/instances/{quote(instance)}/exec", body)
    secrets = operation["metadata"]["fds"]
    path = f"{API}/operations/{operation['id']}/websocket"
    with contextlib.ExitStack() as stack:
        streams = {
            name: stack.enter_context(_stream(client, f"{path}?secret={secret}"))
            for name, secret in sorted(secrets.items())
            if interactive or name != CONTROL
        }
        readers = [threading.Thread(target=_copy_in, args=(streams["0"],), daemon=True)]
        if interactive:
            stack.enter_context(_raw_terminal(streams[CONTROL]))
        for name, output in (("0" if interactive else "1", sys.stdout), ("2", sys.stderr)):
            if name in streams:
                target = output.buffer
                readers.append(threading.Thread(target=_copy_out, args=(streams[name], target)))
        for reader in readers:
            reader.start()
        result = client.wait(operation, END_SECONDS)
        for reader in readers[1:]:
            reader.join(5)
    return int(result["return"])


def _stream(client: IncusClient, path: str) -> ClientConnection:
    options: dict[str, Any] = {
        "open_timeout": CONNECT_SECONDS,
        "max_size": None,
        "compression": None,
        "ping_interval": None,
    }
    try:
        if client.remote.socket:
            here: ClientConnection = unix_connect(
                client.remote.socket, f"ws://incus{path}", **options
            )
            return here
        address = (client.remote.host, client.remote.port)
        raw = socket.create_connection(address, timeout=CONNECT_SECONDS)
        raw.settimeout(None)
        url = f"wss://{client.remote.host}:{client.remote.port}{path}"
        there: ClientConnection = connect(
            url, sock=raw, ssl=tls_context(client.remote), server_hostname="incus", **options
        )
        return there
    except OSError as error:
        raise unreachable(client.remote, error) from None
    except WebSocketException as error:
        raise ProviderError(
            f"Incus at {client.remote} refused a stream of the program: {error}",
            "run the same command again",
        ) from None


def _copy_in(stream: ClientConnection) -> None:
    """Send stdin; an empty text message ends it."""
    with contextlib.suppress(ConnectionClosed, OSError):
        while data := os.read(0, BLOCK):
            stream.send(data)
        stream.send("")


def _copy_out(stream: ClientConnection, output: IO[bytes]) -> None:
    with contextlib.suppress(ConnectionClosed, OSError):
        for message in stream:
            if isinstance(message, str) or not message:
                break
            output.write(message)
            output.flush()
        stream.close()  # for which Incus waits


@contextlib.contextmanager
def _raw_terminal(control: ClientConnection) -> Iterator[None]:
    """Pass keys on as they are, and changes of the window's size."""
    if not os.isatty(0):
        yield
        return
    import termios
    import tty

    def resize(*_: object) -> None:
        columns, lines = shutil.get_terminal_size()
        arguments = {"width": str(columns), "height": str(lines)}
        with contextlib.suppress(ConnectionClosed, OSError):
            control.send(json.dumps({"command": "window-resize", "args": arguments}))

    saved = termios.tcgetattr(0)
    before = signal.signal(signal.SIGWINCH, resize)
    try:
        tty.setraw(0)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, saved)
        signal.signal(signal.SIGWINCH, before)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
