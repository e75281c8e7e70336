"""Stream bytes between the controller and a program on a machine, over the lab's SSH connection.

Neither side keeps the whole in memory.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from provision.core import clock
from provision.core.atomic import atomic_file
from provision.core.errors import HostError
from provision.core.files import cannot_write
from provision.engine.host import Host

CHUNK = 1 << 16
IDLE_TIMEOUT = 600.0
"""Seconds without a byte after which a transfer has failed."""


def pipeline(*programs: Iterable[str]) -> str:
    """A shell command that joins programs by pipes, every argument quoted."""
    return " | ".join(shlex.join(list(argv)) for argv in programs)


def _start(host: Host, command: str) -> Any:
    """Start a pipeline as root; it fails when any of its programs does."""
    script = f"set -o pipefail; {command}"
    sudo = "" if host.endpoint.user == "root" else "sudo -n "
    channel = host.connection.transport.open_session(timeout=10)
    channel.settimeout(IDLE_TIMEOUT)
    channel.exec_command(f"{sudo}bash -c {shlex.quote(script)}")
    return channel


def fetch(host: Host, command: str, path: Path) -> int:
    """Write the output of a pipeline on a machine to a local file with mode 0600.

    Args:
        command: from `pipeline`.
        path: appears when it is complete.

    Returns:
        Its size in bytes.

    Raises:
        LabError: when the pipeline fails or the file cannot be written; then there is no file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            channel = _start(host, command)
            size = 0
            while chunk := channel.recv(CHUNK):
                size += file.write(chunk)
            _check_exit_status(host, channel, command)
    except OSError as error:
        raise cannot_write(path, error) from None
    return size


def feed(host: Host, command: str, chunks: Iterable[bytes]) -> None:
    """Send bytes to the stdin of a pipeline on a machine.

    Raises:
        HostError: when the pipeline fails; with its last lines of output.
    """
    channel = _start(host, command)
    try:
        for chunk in chunks:
            channel.sendall(chunk)
        channel.shutdown_write()
    except OSError:
        pass  # the program ended early; its exit status and output say why
    _check_exit_status(host, channel, command)


def _check_exit_status(host: Host, channel: Any, command: str) -> None:
    program = command.split()[0]
    output = bytearray()
    deadline = clock.now() + IDLE_TIMEOUT
    while not channel.exit_status_ready() or channel.recv_ready() or channel.recv_stderr_ready():
        if channel.recv_stderr_ready():
            output += channel.recv_stderr(CHUNK)
        elif channel.recv_ready():
            output += channel.recv(CHUNK)
        elif clock.now() > deadline:
            raise HostError(f"{host.name}: {program} has not ended in {IDLE_TIMEOUT:g} s")
        else:
            time.sleep(0.005)
    status = channel.recv_exit_status()
    channel.close()
    if status != 0:
        text = bytes(output[-4000:]).decode(errors="replace")
        raise HostError(f"{host.name}: {program} exited with status {status}", output=text)
