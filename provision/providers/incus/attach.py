"""Run a program as root in an instance: ``python -m …attach RECORD INSTANCE SECONDS [PROGRAM…]``.

The exit status is the program's. Without a program, a login shell. The program is killed after
SECONDS, except on a terminal.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from provision.core import clock
from provision.core.errors import LabError, ProviderError
from provision.engine.agent.codec import decode
from provision.providers.incus import streams
from provision.providers.incus.client import REQUEST_SECONDS, IncusClient
from provision.providers.incus.record import LabRecord
from provision.providers.incus.streams import CONTROL

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELL = ("/bin/bash", "-l")
BLOCK = 32768

LAST_OUTPUT_SECONDS = 5.0
"""For the rest of the output, after a program on a terminal has ended."""

FOREVER = 10 * 365 * 24 * 3600.0
FAILED, INTERRUPTED = 255, 130
"""Exit statuses that are not the program's."""


def main(arguments: list[str]) -> int:
    """Run it; the result is the exit status."""
    file, instance, seconds, *argv = arguments
    interactive = os.isatty(0) and os.isatty(1)
    limit = None if interactive else float(seconds)
    try:
        return run(_client(Path(file)), instance, argv or SHELL, limit)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _client(file: Path) -> IncusClient:
    try:
        record = decode(LabRecord, json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ProviderError(f"{file} cannot be read ({error})", "invoke lab.up") from None
    return IncusClient(record.remote)


def run(
    client: IncusClient, instance: str, argv: list[str] | tuple[str, ...], seconds: float | None
) -> int:
    """Run a program with this process's streams; its exit status.

    Args:
        seconds: after which it is killed; None for no limit, on a terminal of its own.

    Raises:
        ProviderError: when Incus refuses it or cannot be reached, or the program does not end.
    """
    interactive = seconds is None
    deadline = clock.now() + (FOREVER if seconds is None else seconds)
    columns, lines = shutil.get_terminal_size()
    body = {
        "command": [*argv],
        "environment": {
            "PATH": SEARCH_PATH,
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "TERM": os.environ.get("TERM", "dumb"),
        },
        "wait-for-websocket": True,
        "interactive": interactive,
        "width": columns,
        "height": lines,
        "cwd": "/root",
    }
    own = REQUEST_SECONDS if seconds is None else min(REQUEST_SECONDS, seconds)
    with contextlib.ExitStack() as stack:
        operation, connections = streams.start(client, instance, body, own, stack)
        output = {"0": 1} if interactive else {"1": 1, "2": 2}
        threading.Thread(target=_copy_in, args=(connections["0"],), daemon=True).start()
        if interactive:
            stack.enter_context(_raw_terminal(connections[CONTROL]))
        writers = [
            threading.Thread(target=_copy_out, args=(connections[name], number), daemon=True)
            for name, number in output.items()
        ]
        for writer in writers:
            writer.start()
        status = streams.exit_status(client, operation, argv[0], deadline - clock.now())
        for writer in writers:
            remaining = LAST_OUTPUT_SECONDS if interactive else deadline - clock.now()
            writer.join(max(0, remaining))
    return status


def _copy_in(stream: ClientConnection) -> None:
    """Send stdin; an empty text message ends it."""
    with contextlib.suppress(ConnectionClosed, OSError):
        with contextlib.suppress(OSError):  # stdin may be closed
            while data := os.read(0, BLOCK):
                stream.send(data)
        stream.send("")


def _copy_out(stream: ClientConnection, number: int) -> None:
    """Write what arrives to a file descriptor; a text message is its end."""
    with contextlib.suppress(ConnectionClosed, OSError):
        for message in stream:
            if isinstance(message, str):
                break
            rest = memoryview(message)
            while rest:
                rest = rest[os.write(number, rest) :]
    stream.close()


@contextlib.contextmanager
def _raw_terminal(control: ClientConnection) -> Iterator[None]:
    """Pass keys on as they are, and changes of the window's size."""
    try:
        import termios
        import tty
    except ImportError:  # Windows: input arrives in lines
        yield
        return

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
