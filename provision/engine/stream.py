"""Files between the controller and a program on a machine, over the lab's SSH connection.

Nothing is kept in memory, and nothing half-written has the final name.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from provision.core.errors import HostError, LabError
from provision.engine.host import Host

CHUNK = 1 << 16
QUIET = 600.0
"""Seconds without a byte after which a transfer counts as dead."""


def _session(host: Host, pipeline: str) -> Any:
    """Start a pipeline of programs as root; it fails when any of them does."""
    script = f"set -o pipefail; {pipeline}"
    sudo = "" if host.endpoint.user == "root" else "sudo -n "
    channel = host.connection.transport.open_session(timeout=10)
    channel.settimeout(QUIET)
    channel.exec_command(f"{sudo}bash -c {shlex.quote(script)}")
    return channel


def pipeline(*programs: Iterable[str]) -> str:
    """Programs joined by pipes, every word quoted."""
    return " | ".join(shlex.join(list(argv)) for argv in programs)


def fetch(host: Host, command: str, path: Path) -> int:
    """Write what a pipeline on a machine prints into a file of the controller, mode 0600.

    Args:
        host: the machine.
        command: from `pipeline`.
        path: the file; it is there when all of it is.

    Returns:
        Its size in bytes.

    Raises:
        LabError: when the pipeline fails or the file cannot be written; then there is no file.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        binary = getattr(os, "O_BINARY", 0)  # or Windows changes line ends
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | binary, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            channel = _session(host, command)
            size = 0
            while chunk := channel.recv(CHUNK):
                size += file.write(chunk)
            _must_end_well(host, channel, command)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise LabError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
    return size


def feed(host: Host, command: str, chunks: Iterable[bytes]) -> None:
    """Send bytes to the stdin of a pipeline on a machine.

    Raises:
        HostError: when it fails; with the last lines that it printed.
    """
    channel = _session(host, command)
    try:
        for chunk in chunks:
            channel.sendall(chunk)
        channel.shutdown_write()
    except OSError:
        pass  # it ended early; its status and words say why
    _must_end_well(host, channel, command)


def _must_end_well(host: Host, channel: Any, command: str) -> None:
    said = bytearray()
    deadline = time.monotonic() + QUIET
    while not channel.exit_status_ready() or channel.recv_ready() or channel.recv_stderr_ready():
        if channel.recv_stderr_ready():
            said += channel.recv_stderr(CHUNK)
        elif channel.recv_ready():
            said += channel.recv(CHUNK)
        elif time.monotonic() > deadline:
            raise HostError(f"{host.name}: no end of {command.split()[0]}")
        else:
            time.sleep(0.005)
    status = channel.recv_exit_status()
    channel.close()
    if status != 0:
        text = bytes(said[-4000:]).decode(errors="replace")
        raise HostError(f"{host.name}: {command.split()[0]} ended with {status}", output=text)
