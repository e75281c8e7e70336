"""HTTP servers and runtime sockets: probes, and waiting until one is ready."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from provision.engine.agent.codec import decode, encode
from provision.engine.agent.files import Journal
from provision.engine.agent.process import AgentError, Log
from provision.engine.agent.protocol import PROBE_SECONDS, HttpRequest, Probe, Readiness
from provision.engine.agent.registry import Args, action, collector
from provision.engine.agent.waiting import AgentTimeoutError, wait_until

if TYPE_CHECKING:
    import http.client

BODY_LIMIT = 64 * 1024
"""Bytes of a response's body that are kept as text."""

READ_LIMIT = 4 * 2**20
"""Bytes of a response's body that are read."""

REPLY_LIMIT = 4 * 1024 * 1024
"""Bytes of a socket's reply to one line."""

CONSECUTIVE = 3
"""So many consecutive responses show that only the new process accepts connections."""


# --- HTTP ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HttpResponse:
    """The response to one GET.

    Args:
        status: 0 without a response.
        headers: names in lower case.
        error: why there was no response.
        seconds: how long the probe waited for the status that it wanted.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    error: str = ""
    seconds: float = 0.0


def http_probe(
    name: str, request: HttpRequest, *, until: int = 0, deadline: float = 0.0
) -> Probe[HttpResponse]:
    """The response of a server to the machine.

    Args:
        name: of the probe.
        request: sent by the machine.
        until: repeat the request until the response has this status.
        deadline: seconds for that.
    """
    args = {"request": encode(request), "until": until, "deadline": deadline}
    seconds = max(PROBE_SECONDS, deadline + request.timeout + 5)
    return Probe("http", f"http {name}", args, HttpResponse, seconds)


@collector("http")
def collect_http(args: Args) -> HttpResponse:
    """See `http_probe`."""
    request, until = decode(HttpRequest, args["request"]), args["until"]
    started, response = time.monotonic(), HttpResponse()

    def has_status() -> bool:
        nonlocal response
        response = get(request)
        return not until or response.status == until

    with contextlib.suppress(AgentTimeoutError):
        wait_until(has_status, args["deadline"], f"status {until}", interval=0.05)
    return replace(response, seconds=round(time.monotonic() - started, 3))


def get(request: HttpRequest) -> HttpResponse:
    """Send one GET; an error is a response without a status."""
    response, body = exchange(request)
    return replace(response, body=body[:BODY_LIMIT].decode(errors="replace"))


def exchange(request: HttpRequest) -> tuple[HttpResponse, bytes]:
    """Send one GET; the response without its body, and the body up to `READ_LIMIT`."""
    import http.client

    connection = None
    try:
        connection = _connect(request)
        connection.request("GET", request.path, headers={"Host": request.host})
        response = connection.getresponse()
        body = response.read(READ_LIMIT)
        headers = {name.lower(): value for name, value in response.getheaders()}
        return HttpResponse(response.status, headers), body
    except (OSError, http.client.HTTPException) as error:
        return HttpResponse(error=str(error) or repr(error)), b""
    finally:
        if connection is not None:
            connection.close()


def _connect(request: HttpRequest) -> http.client.HTTPConnection:
    import http.client

    if request.socket:
        connection = http.client.HTTPConnection("localhost", timeout=request.timeout)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(request.timeout)
        try:
            connection.sock.connect(request.socket)
        except OSError:
            connection.close()
            raise
        return connection
    if not request.ca:
        port = request.port or 80
        return http.client.HTTPConnection(request.address, port, timeout=request.timeout)
    import ssl

    context = ssl.create_default_context(cafile=request.ca)
    port = request.port or 443
    return http.client.HTTPSConnection(
        request.address, port, timeout=request.timeout, context=context
    )


# --- runtime sockets -----------------------------------------------------------------------------


@dataclass(frozen=True)
class SocketReply:
    """The reply to one line; without a connection, ``error`` says why."""

    text: str = ""
    error: str = ""


def socket_probe(path: str, line: str) -> Probe[SocketReply]:
    """The reply of a unix socket to one line (HAProxy's runtime API)."""
    return Probe("socket", f"socket {path}: {line}", {"path": path, "line": line}, SocketReply)


@collector("socket")
def collect_socket(args: Args) -> SocketReply:
    """See `socket_probe`."""
    return socket_command(args["path"], args["line"])


def socket_command(path: str, line: str) -> SocketReply:
    """Send one line to a unix socket and read until it closes."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(3.0)
            connection.connect(path)
            connection.sendall(line.encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)  # HAProxy's master reads commands until it sees EOF
            received = b""
            while len(received) <= REPLY_LIMIT and (chunk := connection.recv(65536)):
                received += chunk
            if len(received) > REPLY_LIMIT:
                return SocketReply(error=f"the reply is larger than {REPLY_LIMIT >> 20} MiB")
            return SocketReply(received.decode(errors="replace"))
    except BlockingIOError:  # connect(2) on a unix socket with a timeout: EAGAIN
        return SocketReply(error="it accepts no connection, and its backlog is full")
    except OSError as error:
        return SocketReply(error=str(error))


@action("socket")
def send_lines(args: Args, journal: Journal, log: Log) -> None:
    """Send ``lines`` to the unix socket ``path``, one connection per line.

    Raises:
        AgentError: when there is no connection, or a reply, which reports an error.
    """
    lines: Sequence[str] = args["lines"]
    for line in lines:
        reply = socket_command(args["path"], line)
        if problem := reply.error or reply.text.strip():
            raise AgentError(f"{args['path']} refused '{line}'", problem)


# --- readiness -----------------------------------------------------------------------------------


def wait_until_ready(
    readiness: Readiness, log: Log, require_running: Callable[[], None] = lambda: None
) -> None:
    """Wait until a server is ready.

    Args:
        require_running: raises an error when waiting is in vain.

    Raises:
        AgentTimeoutError: with its last response.
    """
    log(f"waiting for {readiness.name}")
    last, consecutive = "", 0

    def http_ready(request: HttpRequest) -> bool:
        nonlocal last
        response = get(request)
        last = response.error or f"status {response.status}: {response.body[:300]}"
        return response.status in readiness.statuses

    def socket_ready() -> bool:
        nonlocal last, consecutive
        if not os.path.exists(readiness.socket):
            last = f"{readiness.socket} does not exist"
            return False
        reply = socket_command(readiness.socket, "show info")
        last = reply.error or reply.text
        consecutive = consecutive + 1 if not reply.error and readiness.contains in last else 0
        # During a takeover the old and the new process accept connections in turn.
        return consecutive >= (CONSECUTIVE if readiness.contains else 1)

    request = readiness.http

    def ready() -> bool:
        if socket_ready() if request is None else http_ready(request):
            return True
        require_running()
        return False

    try:
        wait_until(ready, readiness.deadline, readiness.name)
    except AgentTimeoutError as error:
        raise AgentTimeoutError(str(error), last) from None
