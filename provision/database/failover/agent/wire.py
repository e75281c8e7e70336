"""The connections between guards and witness: one authenticated request and response each.

The server sends a nonce. The request carries an HMAC over the nonce, the response one over both,
with the lab's secret. So only a holder of the secret can send either, and neither can be replayed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

PORT = 3390
TIMEOUT = 1.0
"""Seconds for connecting and for each line."""

MAX_LINE = 1 << 16

Handler = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns a request into a response."""


class WireError(Exception):
    """No response, or one that is not authentic."""


def _mac(secret: str, *parts: str) -> str:
    return hmac.new(secret.encode(), "\n".join(parts).encode(), hashlib.sha256).hexdigest()


def _read_line(connection: socket.socket) -> str:
    line = b""
    while not line.endswith(b"\n"):
        received = connection.recv(4096)
        if not received or len(line) > MAX_LINE:
            raise WireError("the connection was closed")
        line += received
    return line.decode(errors="replace").rstrip("\n")


def send_request(
    address: str, secret: str, request: dict[str, Any], port: int = PORT
) -> dict[str, Any]:
    """Send one request and return the response.

    Raises:
        WireError: when there is no authentic response to this request.
    """
    try:
        with socket.create_connection((address, port), TIMEOUT) as connection:
            connection.settimeout(TIMEOUT)
            nonce = _read_line(connection)
            text = json.dumps(request)
            request_mac = _mac(secret, "ask", nonce, text)
            connection.sendall(f"{request_mac} {text}\n".encode())
            response_mac, _, body = _read_line(connection).partition(" ")
    except OSError as error:
        raise WireError(str(error)) from None
    if not hmac.compare_digest(response_mac, _mac(secret, "say", nonce, request_mac, body)):
        raise WireError("the response is not authentic")
    response: dict[str, Any] = json.loads(body)
    return response


def handle_connection(connection: socket.socket, secret: str, handler: Handler) -> None:
    """Respond to one request; a request that is not authentic gets no response."""
    with connection:
        try:
            connection.settimeout(TIMEOUT)
            nonce = os.urandom(16).hex()
            connection.sendall(f"{nonce}\n".encode())
            request_mac, _, text = _read_line(connection).partition(" ")
            if not hmac.compare_digest(request_mac, _mac(secret, "ask", nonce, text)):
                return
            body = json.dumps(handler(json.loads(text)))
            response_mac = _mac(secret, "say", nonce, request_mac, body)
            connection.sendall(f"{response_mac} {body}\n".encode())
        except (OSError, ValueError, WireError):
            return


def serve(address: str, secret: str, handler: Handler, port: int = PORT) -> socket.socket:
    """Handle connections in threads from now on; returns the listening socket."""
    listener = socket.create_server((address, port), backlog=16)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(
                target=handle_connection, args=(connection, secret, handler), daemon=True
            ).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener


def mysql_responds(address: str, timeout: float = TIMEOUT) -> bool:
    """Whether a MySQL server sends its handshake; an open port alone may be a server that hangs."""
    try:
        with socket.create_connection((address, 3306), timeout) as connection:
            connection.settimeout(timeout)
            return len(connection.recv(5)) > 4
    except OSError:
        return False
