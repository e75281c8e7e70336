"""A machine: one SSH connection, and the agent that runs over it."""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import paramiko

from provision.core.endpoint import Endpoint
from provision.core.errors import HostError
from provision.core.report import Log
from provision.core.waiting import timeout_factor
from provision.engine import ssh
from provision.engine.agent.codec import ProtocolError, decode, encode
from provision.engine.agent.process import ProcessResult
from provision.engine.agent.protocol import (
    Failure,
    LogLine,
    Message,
    Probe,
    ProbeError,
    ProbeResponse,
    Ready,
    Request,
    Results,
    RunRequest,
    UnitRequest,
    UnitResponse,
    decode_message,
    gather_request,
)
from provision.engine.payload import BOOT, payload

SSH_ERRORS = (OSError, EOFError, paramiko.SSHException)


class RemoteError(HostError):
    """The agent responded that a request failed."""


class ProbeFailedError(HostError, ProbeError):
    """A probe has no result; the others of the same gather may have theirs."""


@dataclass
class Host:
    """One machine, connected at first use.

    Args:
        name: for messages.
        log: receives the machine's progress messages.
        round_trips: requests that were sent so far.
    """

    name: str
    endpoint: Endpoint
    log: Log = lambda _text: None
    round_trips: int = 0
    _connection: Any = None
    _channel: Any = None
    _buffer: bytes = b""
    _number: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    # --- the connection --------------------------------------------------------------------------

    def connect(self) -> None:
        """Log in, unless connected.

        Raises:
            HostError: when the machine is unreachable, refuses the login, or presents another
                host key than the pinned one.
        """
        with self._lock:
            if self._connection is None:
                self._connection = ssh.connect(self.name, self.endpoint)

    @property
    def connection(self) -> Any:
        """The Fabric connection, for terminals, port forwards and file transfers."""
        self.connect()
        return self._connection

    def close(self) -> None:
        """End agent and connection; a pending request of another thread fails at once."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            connection.close()
            if connection.gateway is not None:
                connection.gateway.close()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- operations ------------------------------------------------------------------------------

    def gather(self, probes: Iterable[Probe[Any]], timeout: float = 60.0) -> Results:
        """Collect facts in one round trip.

        Args:
            probes: each is sent once, however often it occurs.
            timeout: seconds without any line from the machine.

        Returns:
            Results; reading one that failed raises `ProbeFailedError`.
        """
        value = self.call("gather", encode(gather_request(probes)), timeout)
        responses = {name: decode(ProbeResponse, response) for name, response in value.items()}
        return Results(self.name, responses, ProbeFailedError)

    def apply(self, request: UnitRequest, timeout: float = 60.0) -> UnitResponse:
        """Apply one unit as a transaction on the machine."""
        return decode(UnitResponse, self.call("unit", encode(request), timeout))

    def run(self, *argv: str, input: str = "", timeout: float = 60.0) -> ProcessResult:
        """Run one program as root. Values are arguments, never shell text.

        Args:
            input: text for its stdin; secrets belong here.
            timeout: seconds until it is killed and has status 124.
        """
        request = RunRequest(argv, input, timeout)
        return decode(ProcessResult, self.call("run", encode(request), timeout + 15))

    def call(self, operation: str, args: Mapping[str, Any], timeout: float = 60.0) -> Any:
        """Send one request to the agent; its progress messages go to ``log``.

        Args:
            operation: of the agent (``registry.operation``).
            args: travel through stdin, so that secrets are safe in them.
            timeout: seconds without any line from the machine.

        Raises:
            HostError: the machine is unreachable or stopped responding.
            RemoteError: the operation failed.
        """
        timeout *= timeout_factor()
        with self._lock:
            channel = self._agent()
            self._number += 1
            self.round_trips += 1
            request = encode(Request(self._number, operation, args))
            try:
                channel.settimeout(timeout)
                channel.sendall(json.dumps(request).encode() + b"\n")
            except SSH_ERRORS as error:
                raise self._lost(error) from None
            while True:
                message = self._read(timeout)
                if isinstance(message, Ready) or message.id != self._number:
                    continue  # a response to a request that Ctrl-C interrupted
                if isinstance(message, LogLine):
                    self.log(message.log)
                elif isinstance(message, Failure):
                    raise RemoteError(f"{self.name}: {message.error}", output=message.output)
                else:
                    return message.value

    # --- the agent -------------------------------------------------------------------------------

    def _agent(self) -> Any:
        """The channel to the agent's stdin and stdout; starts it at first use."""
        if self._channel is None:
            self.connect()
            sudo = "" if self.endpoint.user == "root" else "sudo -n "
            channel = None
            try:
                channel = self._connection.transport.open_session(timeout=ssh.CONNECT_TIMEOUT)
                channel.exec_command(f"{sudo}python3 -I -c {shlex.quote(BOOT)}")
                channel.sendall(payload())
            except SSH_ERRORS as error:
                raise self._lost(error, _stderr(channel) if channel else "") from None
            self._channel = channel
            self._buffer = b""
            first = self._read(ssh.CONNECT_TIMEOUT + 10)
            if not isinstance(first, Ready):
                raise self._lost(RuntimeError(f"the agent sent {first} first"))
        return self._channel

    def _read(self, timeout: float) -> Message:
        deadline = time.monotonic() + timeout
        channel = self._channel
        while b"\n" not in self._buffer:
            if channel is None:
                raise self._lost(RuntimeError("the connection was closed"))
            channel.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                received = channel.recv(1 << 16)
            except TimeoutError:
                raise self._lost(RuntimeError(f"no response in {timeout:.0f} s")) from None
            except SSH_ERRORS as error:
                raise self._lost(error) from None
            if not received:
                output = _stderr(channel)
                raise self._lost(RuntimeError("the connection was closed"), output)
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            return decode_message(json.loads(line))
        except (ValueError, ProtocolError):
            text = line.decode(errors="replace")
            raise self._lost(RuntimeError("it sent an unknown message"), text) from None

    def _lost(self, error: BaseException, output: str = "") -> HostError:
        """Close the connection; returns the error to raise."""
        self.close()
        if "sudo" in output:
            what, hint = "sudo asks for a password", f"allow {self.endpoint.user} to use sudo -n"
        elif "python3" in output and "not found" in output:
            what, hint = "python3 is not installed", "apt-get install python3"
        else:
            what = f"the machine stopped responding ({error})"
            hint = "invoke lab.status shows which machines run; invoke lab.up continues from here"
        return HostError(f"{self.name}: {what}", hint, output=output)


def _stderr(channel: Any) -> str:
    try:
        channel.settimeout(1)
        text: str = channel.recv_stderr(1 << 14).decode(errors="replace")
    except (OSError, EOFError):
        return ""
    return text
