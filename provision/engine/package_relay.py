"""Packages for a machine through its SSH connection: answers the requests of the agent's relay."""

from __future__ import annotations

import contextlib
import json
import shlex
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from provision.core.lab import ROOT
from provision.core.pool.pool import Pool, PoolError
from provision.core.pool.responses import modified_since, response_headers
from provision.core.waiting import timeout_factor
from provision.engine.host import Host
from provision.engine.messages import ssh_errors
from provision.engine.payload import BOOT

PROGRAM = ROOT / "provision" / "engine" / "agent" / "package_relay.py"
START_SECONDS = 20.0
CHUNK = 1 << 16


@contextlib.contextmanager
def packages_through(host: Host, pool: Pool | None) -> Iterator[None]:
    """Let apt on a machine read from a pool while the body runs.

    Where the relay cannot be started, apt uses its own sources.
    """
    channel = _start(host, pool.apt_options()) if pool is not None else None
    if channel is None or pool is None:
        yield
        return
    stream = channel.makefile("rb")
    thread = threading.Thread(target=_answer, args=(channel, stream, pool), daemon=True)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(*ssh_errors()):
            channel.shutdown_write()
        thread.join(START_SECONDS)
        channel.close()


def _start(host: Host, options: Sequence[str]) -> Any:
    """A channel to a running relay; None when it does not start."""
    source = PROGRAM.read_bytes()
    sudo = "" if host.endpoint.user == "root" else "sudo -n "
    try:
        channel = host.connection.transport.open_session(timeout=START_SECONDS)
        channel.settimeout(START_SECONDS * timeout_factor())
        channel.exec_command(f"{sudo}python3 -I -X utf8 -c {shlex.quote(BOOT)}")
        arguments = json.dumps(list(options)).encode()
        channel.sendall(b"%d\n%s%s\n" % (len(source), source, arguments))
        received = b""
        while b"\n" not in received or b'{"port"' not in received:
            data = channel.recv(CHUNK)
            if not data:
                return None
            received += data
        channel.settimeout(None)
    except ssh_errors():
        return None
    return channel


def _answer(channel: Any, stream: Any, pool: Pool) -> None:
    with contextlib.suppress(*ssh_errors(), ValueError):
        while line := stream.readline():
            if line.startswith(b"{"):
                _respond(channel, json.loads(line), pool)


def _respond(channel: Any, request: dict[str, str], pool: Pool) -> None:
    try:
        if request["method"] != "GET":
            raise PoolError(501, "only GET is supported")
        path = pool.read(request["url"])
    except PoolError as error:
        reason = str(error).replace("\n", " ").encode("ascii", "replace").decode()
        _send(channel, error.status, reason, {"Content-Length": "0"})
        return
    if not modified_since(path, request["since"]):
        _send(channel, 304, "Not Modified", {})
        return
    headers = response_headers(path)
    with path.open("rb") as file:
        _send(channel, 200, "OK", headers, int(headers["Content-Length"]))
        while data := file.read(CHUNK):
            channel.sendall(data)


def _send(channel: Any, status: int, reason: str, headers: dict[str, str], length: int = 0) -> None:
    head = {"status": status, "reason": reason, "headers": headers, "length": length}
    channel.sendall(json.dumps(head).encode() + b"\n")
