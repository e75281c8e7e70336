"""On the machine: asking HTTP servers and sockets, as a probe and as a wait with a deadline."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import time
from typing import Any

from provision.engine.agent.core import ACTIONS, PROBES, Failed, Job, Say, run


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(one: dict[str, Any]) -> http.client.HTTPConnection:
    timeout = float(one.get("timeout", 3.0))
    if one.get("socket"):
        return UnixConnection(one["socket"], timeout)
    if one.get("ca"):
        trusting = ssl.create_default_context(cafile=one["ca"])
        port = one.get("port", 443)
        return http.client.HTTPSConnection(one["address"], port, timeout=timeout, context=trusting)
    return http.client.HTTPConnection(one["address"], one.get("port", 80), timeout)


def ask(one: dict[str, Any]) -> dict[str, Any]:
    """One GET: ``address`` and ``port``, or ``socket``; ``path``, ``host``, ``timeout`` s.

    With ``ca``, a file on the machine, it is HTTPS, and the address must be certified.
    """
    connection: http.client.HTTPConnection | None = None
    try:
        connection = _connection(one)
        connection.request("GET", one["path"], headers={"Host": one.get("host", "localhost")})
        answer = connection.getresponse()
        body = answer.read(64 * 1024).decode(errors="replace")
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return {"status": answer.status, "headers": headers, "body": body, "error": ""}
    except (OSError, http.client.HTTPException) as error:
        return {"status": 0, "headers": {}, "body": "", "error": str(error) or repr(error)}
    finally:
        if connection is not None:
            connection.close()


def ask_until(one: dict[str, Any]) -> dict[str, Any]:
    """An ``ask`` that is repeated until its status is ``until``, at most ``patience`` seconds."""
    started = time.monotonic()
    while True:
        answer = ask(one)
        waited = time.monotonic() - started
        if one.get("until") in (None, answer["status"]) or waited > one.get("patience", 5.0):
            return answer | {"seconds": round(waited, 3)}
        time.sleep(0.05)


def http_probe(each: list[dict[str, Any]]) -> Job:
    """Ask several servers, one after the other."""
    yield
    return [ask_until(one) for one in each]


def socket_command(one: dict[str, Any]) -> str:
    """Send one line to a unix socket and read until it closes (HAProxy's runtime API)."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(float(one.get("timeout", 3.0)))
            connection.connect(one["path"])
            connection.sendall(one["line"].encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)  # HAProxy's master answers on until it sees an end
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
            return received.decode(errors="replace")
    except OSError as error:
        return f"!{error}"


def socket_probe(each: list[dict[str, Any]]) -> Job:
    """Ask unix sockets: ``path`` and ``line``; an answer that starts with ! is an error."""
    yield
    return [{"text": socket_command(one)} for one in each]


def socket_lines(args: dict[str, Any], journal: Any, say: Say) -> None:
    """Send lines to a unix socket, one connection each: ``path``, ``lines``.

    Raises:
        Failed: when the socket does not answer, or answers a line that is meant to be silent.
    """
    for line in args["lines"]:
        answer = socket_command({"path": args["path"], "line": line}).strip()
        if answer:
            raise Failed(f"{args['path']} answered to '{line}'", answer.lstrip("!"))


PROBES["http"] = http_probe
ACTIONS["socket"] = socket_lines
PROBES["socket"] = socket_probe


def command_probe(each: list[dict[str, Any]]) -> Job:
    """Run read-only programs: ``argv``, ``timeout`` s."""
    yield
    answers = []
    for one in each:
        done = run(one["argv"], timeout=float(one.get("timeout", 10.0)))
        answers.append({"status": done.status, "out": done.out, "err": done.err})
    return answers


PROBES["command"] = command_probe


ANSWERS = 3
"""So many answers in a row come from the new process."""


def wait_for(what: dict[str, Any], say: Say) -> None:
    """Poll until something answers.

    Args:
        what: ``name`` for people, ``deadline`` in seconds, and one of ``http`` (an ``ask``, with
            the ``statuses`` that count) or ``socket`` (a path where ``show info`` is answered, with
            the text ``says`` in it: by the process that has loaded what was written).
        say: reports progress.

    Raises:
        Failed: with the last answer when the deadline has passed.
    """
    deadline = time.monotonic() + what["deadline"]
    say(f"waiting for {what['name']}")
    last, answered = "", 0
    while True:
        if "http" in what:
            answer = ask(what["http"])
            if answer["status"] in what["statuses"]:
                return
            last = answer["error"] or f"status {answer['status']}: {answer['body'][:300]}"
        else:
            if os.path.exists(what["socket"]):
                last = socket_command({"path": what["socket"], "line": "show info"})
                right = not last.startswith("!") and what.get("says", "") in last
                answered = answered + 1 if right else 0
                # While one process takes over from another, both answer in turn.
                if answered >= (ANSWERS if "says" in what else 1):
                    return
            else:
                last = f"{what['socket']} does not exist"
        if time.monotonic() >= deadline:
            raise Failed(f"{what['name']} did not answer in {what['deadline']} s", last)
        time.sleep(0.1)
