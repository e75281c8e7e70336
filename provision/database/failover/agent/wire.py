"""How the parties of db.autopromote talk: one question and one answer a connection, authenticated.

The server begins with a nonce. The question carries an HMAC over it, the answer one over both, with
the lab's secret: nobody without it can ask, answer, or repeat what was once said.
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
SECONDS = 1.0
"""How long each step of a conversation may take."""

LONGEST = 1 << 16

Answer = Callable[[dict[str, Any]], dict[str, Any]]


class WireError(Exception):
    """No answer, or none that can be believed."""


def _mac(secret: str, *parts: str) -> str:
    return hmac.new(secret.encode(), "\n".join(parts).encode(), hashlib.sha256).hexdigest()


def _line(connection: socket.socket) -> str:
    found = b""
    while not found.endswith(b"\n"):
        received = connection.recv(4096)
        if not received or len(found) > LONGEST:
            raise WireError("the connection was closed")
        found += received
    return found.decode(errors="replace").rstrip("\n")


def ask(address: str, secret: str, question: dict[str, Any], port: int = PORT) -> dict[str, Any]:
    """Ask one question.

    Raises:
        WireError: without an answer that was made for it by somebody who knows the secret.
    """
    try:
        with socket.create_connection((address, port), SECONDS) as connection:
            connection.settimeout(SECONDS)
            nonce = _line(connection)
            text = json.dumps(question)
            mine = _mac(secret, "ask", nonce, text)
            connection.sendall(f"{mine} {text}\n".encode())
            mac, _, said = _line(connection).partition(" ")
    except OSError as error:
        raise WireError(str(error)) from None
    if not hmac.compare_digest(mac, _mac(secret, "say", nonce, mine, said)):
        raise WireError("the answer is not the lab's")
    found: dict[str, Any] = json.loads(said)
    return found


def converse(connection: socket.socket, secret: str, answer: Answer) -> None:
    """Answer one question on a connection; silence for who does not know the secret."""
    with connection:
        try:
            connection.settimeout(SECONDS)
            nonce = os.urandom(16).hex()
            connection.sendall(f"{nonce}\n".encode())
            mac, _, text = _line(connection).partition(" ")
            if not hmac.compare_digest(mac, _mac(secret, "ask", nonce, text)):
                return
            said = json.dumps(answer(json.loads(text)))
            proof = _mac(secret, "say", nonce, mac, said)
            connection.sendall(f"{proof} {said}\n".encode())
        except (OSError, ValueError, WireError):
            return


def serve(address: str, secret: str, answer: Answer, port: int = PORT) -> socket.socket:
    """Answer questions in threads from now on; returns the listening socket."""
    listening = socket.create_server((address, port), backlog=16)

    def loop() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(
                target=converse, args=(connection, secret, answer), daemon=True
            ).start()

    threading.Thread(target=loop, daemon=True).start()
    return listening


def greets(address: str, port: int = 3306, seconds: float = SECONDS) -> bool:
    """Whether a MySQL server says hello there: its port alone may be open while it hangs."""
    try:
        with socket.create_connection((address, port), seconds) as connection:
            connection.settimeout(seconds)
            return len(connection.recv(5)) > 4
    except OSError:
        return False
