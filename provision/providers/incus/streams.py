"""The streams of a program in an instance: one WebSocket each (``POST …/exec`` of the REST API).

Incus starts the program when every stream but ``control`` is open, and gives up after 10 seconds.
So ``control`` is opened first: afterwards the program may already have ended. While it is open,
Incus kills the program when it is closed.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect, unix_connect

from provision.core.errors import ProviderError
from provision.providers.incus.client import (
    API,
    IncusClient,
    OperationTimeoutError,
    unreachable,
)
from provision.providers.incus.remote import tls_context
from provision.setup.incus_server import CONNECT_SECONDS

CONTROL = "control"
CLOSE_SECONDS = 1.0
"""How long a closed stream waits for the server's close frame."""


def start(
    client: IncusClient,
    instance: str,
    body: Mapping[str, Any],
    seconds: float,
    stack: contextlib.ExitStack,
) -> tuple[Mapping[str, Any], dict[str, ClientConnection]]:
    """Begin a program: its operation, and its open streams by name.

    Args:
        body: of the request.
        seconds: for the response to it, and at most for opening each stream.
        stack: closes the streams.

    Raises:
        ProviderError: when Incus refuses it or does not respond.
    """
    operation = client.start(f"/instances/{quote(instance)}/exec", body, seconds)
    secrets = (operation.get("metadata") or {}).get("fds") or {}
    wanted = {CONTROL, "0"} if body["interactive"] else {CONTROL, "0", "1", "2"}
    if not wanted <= secrets.keys() or "id" not in operation:
        raise ProviderError(
            f"Incus at {client.remote} has started a program without the streams "
            + ", ".join(sorted(wanted - secrets.keys())),
            "incus version: the server must be 6.0 or newer",
        )
    path = f"{API}/operations/{operation['id']}/websocket"
    limit = min(seconds, CONNECT_SECONDS)
    return operation, {
        name: stack.enter_context(_open(client, name, f"{path}?secret={secrets[name]}", limit))
        for name in (CONTROL, *sorted(wanted - {CONTROL}))
    }


def exit_status(
    client: IncusClient, operation: Mapping[str, Any], program: str, seconds: float
) -> int:
    """Wait until a program has ended; its exit status.

    Raises:
        ProviderError: when it does not end in time, or Incus could not run it.
    """
    try:
        result = client.wait(operation, seconds)
    except OperationTimeoutError:
        raise ProviderError(
            f"{program} has not ended in time in the instance, and is killed",
            "on a terminal there is no limit: invoke lab.rescue MACHINE",
        ) from None
    status = (result or {}).get("return")
    if not isinstance(status, int):
        raise ProviderError(
            f"Incus at {client.remote} does not say how {program} has ended",
            "run the same command again",
        )
    return status


def _open(client: IncusClient, name: str, path: str, seconds: float) -> ClientConnection:
    options: dict[str, Any] = {
        "open_timeout": seconds,
        "close_timeout": CLOSE_SECONDS,
        "max_size": None,
        "compression": None,
        "ping_interval": None,  # Incus sends pings itself
    }
    remote = client.remote
    try:
        if remote.socket:
            here: ClientConnection = unix_connect(remote.socket, f"ws://incus{path}", **options)
            return here
        with contextlib.ExitStack() as failed:
            raw = socket.create_connection((remote.host, remote.port), timeout=seconds)
            failed.callback(raw.close)
            raw.settimeout(None)  # websockets has its own timeouts
            there: ClientConnection = connect(
                f"wss://{remote.host}:{remote.port}{path}",
                sock=raw,
                ssl=tls_context(remote),
                server_hostname="incus",
                **options,
            )
            failed.pop_all()
            return there
    except TimeoutError:
        raise ProviderError(
            f"Incus at {remote} has not opened the stream {name} of the program within "
            f"{seconds:g} s",
            "run the same command again; if it keeps failing, restart Incus on that server",
        ) from None
    except OSError as error:
        raise unreachable(remote, error) from None
    except (WebSocketException, EOFError) as error:
        reason = " ".join(str(error).split())
        raise ProviderError(
            f"Incus at {remote} refused the stream {name} of the program: {reason}",
            "run the same command again",
        ) from None
