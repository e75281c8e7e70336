"""A machine: one SSH connection, and the agent that runs over it."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from provision.core import clock
from provision.core.endpoint import Endpoint
from provision.core.errors import HostError
from provision.core.interrupts import deferred
from provision.core.pool.pool import Pool
from provision.core.report import Log
from provision.core.waiting import timeout_factor
from provision.engine import ssh
from provision.engine.agent.codec import ProtocolError, decode, encode
from provision.engine.agent.filesystem import shown, shown_lines
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
    gather_request,
)
from provision.engine.messages import ChannelError, MessageReader, ssh_errors
from provision.engine.payload import BOOT, payload

T = TypeVar("T")

START_SECONDS = 20.0
"""Seconds until the agent's first message."""

PRINTS = (
    "find what prints there: a start-up file of the shell such as ~/.bashrc, BASH_ENV, or sshd's"
    " ForceCommand; invoke lab.rescue {name} opens a shell without SSH"
)


SUDO = re.compile(r"^sudo: .*(password|terminal)", re.MULTILINE)
NO_PYTHON = re.compile(r"python3.*not found|python3: No such file")
BROKEN_PYTHON = re.compile(r"Fatal Python error|ModuleNotFoundError|ImportError")


@dataclass(frozen=True)
class Gathered:
    """The result of the operation ``gather``."""

    responses: Mapping[str, ProbeResponse]


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
        copies: paths on the machine of kept copies of files that were changed by hand.
        pool: where its packages come from; None for its own sources.
    """

    name: str
    endpoint: Endpoint
    log: Log = lambda _text: None
    round_trips: int = 0
    copies: tuple[str, ...] = ()
    pool: Pool | None = None
    _connection: Any = None
    _channel: Any = None
    _messages: MessageReader | None = None
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

    def start(self) -> None:
        """Log in and start the agent, unless it runs.

        Raises:
            HostError: as for `connect`, and when the agent cannot be started.
        """
        with self._lock:
            self._agent()

    def try_to_start(self) -> None:
        """`start` without its errors, for a thread of its own: the next operation repeats them."""
        with contextlib.suppress(Exception):
            self.start()

    @property
    def connection(self) -> Any:
        """The Fabric connection, for terminals, port forwards and file transfers."""
        self.connect()
        return self._connection

    def close(self) -> None:
        """End agent and connection; a pending request of another thread fails at once."""
        connection, self._connection, self._channel = self._connection, None, None
        self._messages = None
        if connection is not None:
            connection.close()
            if connection.gateway is not None:
                connection.gateway.close()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- operations ------------------------------------------------------------------------------

    def gather(
        self, probes: Iterable[Probe[Any]], timeout: float = 60.0, *, each: float = 0.0
    ) -> Results:
        """Collect facts in one round trip.

        Args:
            probes: each is sent once, however often it occurs.
            timeout: seconds without any line from the machine.
            each: seconds after which a probe without a result has failed; 0 for no limit.

        Returns:
            Results; reading one that failed raises `ProbeFailedError`.
        """
        request = gather_request(probes, each, timeout_factor())
        # A batch that blocks is repeated probe by probe, in half of its time.
        longest = max((probe.seconds for probe in request.probes.values()), default=0.0)
        value = self.call("gather", encode(request), max(timeout, 1.5 * longest + 10))
        responses = self._decode(Gathered, {"responses": value}).responses
        readable = {
            name: replace(response, error=shown_lines(response.error))
            for name, response in responses.items()
        }
        return Results(self.name, readable, ProbeFailedError)

    def apply(self, request: UnitRequest, timeout: float = 60.0) -> UnitResponse:
        """Apply one unit as a transaction on the machine."""
        response = self._decode(UnitResponse, self.call("unit", encode(request), timeout))
        return replace(
            response,
            error=shown_lines(response.error),
            output=shown_lines(response.output),
            restored=tuple(map(shown, response.restored)),
            kept=tuple(map(shown, response.kept)),
        )

    def run(self, *argv: str, input: str = "", timeout: float = 60.0) -> ProcessResult:
        """Run one program as root. Values are arguments, never shell text.

        Args:
            input: text for its stdin; secrets belong here.
            timeout: seconds until it is killed and has status 124.
        """
        request = RunRequest(argv, input, timeout)
        return self._decode(ProcessResult, self.call("run", encode(request), timeout + 15))

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
            line = json.dumps(request).encode() + b"\n"
            try:
                channel.settimeout(timeout)
                with deferred():  # half a line, or a lock of Paramiko, would block what follows
                    channel.sendall(line)
            except ssh_errors() as error:
                raise self._lost(error) from None
            deadline = clock.now() + timeout
            while True:
                message = self._read(deadline, timeout)
                if isinstance(message, Ready) or message.id < self._number:
                    continue  # a response to a request that Ctrl-C interrupted
                if message.id > self._number:
                    what = f"it responded to request {message.id}, which was never sent"
                    raise self._lost(RuntimeError(what))
                if isinstance(message, LogLine):
                    deadline = clock.now() + timeout
                    self.log(shown_lines(message.log))
                elif isinstance(message, Failure):
                    text, output = shown_lines(message.error), shown_lines(message.output)
                    raise RemoteError(f"{self.name}: {text}", output=output)
                else:
                    return message.value

    def _decode(self, kind: type[T], value: Any) -> T:
        try:
            return decode(kind, value)
        except (ProtocolError, RecursionError) as error:
            text = shown_lines(str(error))
            raise self._lost(RuntimeError(f"it sent an unexpected result: {text}")) from None

    # --- the agent -------------------------------------------------------------------------------

    def _agent(self) -> Any:
        """The channel to the agent's stdin and stdout; starts it at first use."""
        if self._channel is None:
            self.connect()
            sudo = "" if self.endpoint.user == "root" else "sudo -n "
            try:
                channel = self._connection.transport.open_session(timeout=ssh.CONNECT_TIMEOUT)
                channel.settimeout(START_SECONDS * timeout_factor())
                channel.exec_command(f"{sudo}python3 -I -X utf8 -c {shlex.quote(BOOT)}")
            except ssh_errors() as error:
                raise self._lost(error) from None
            self._channel, self._messages = channel, MessageReader(channel)
            # What ended before it has read all says why.
            with contextlib.suppress(*ssh_errors()), deferred():
                channel.sendall(payload())
            try:
                self._messages.wait_until_ready(START_SECONDS * timeout_factor())
            except ChannelError as error:
                raise self._broken(error) from None
        return self._channel

    def _read(self, deadline: float, seconds: float) -> Message:
        if self._messages is None:
            raise self._lost(RuntimeError("the connection was closed"))
        try:
            return self._messages.read(deadline, seconds)
        except ChannelError as error:
            raise self._broken(error) from None

    def _broken(self, error: ChannelError) -> HostError:
        channel, printed = self._channel, error.received
        output = _stderr(channel) if error.closed and channel is not None else ""
        return self._lost(error, output, printed)

    def _lost(self, error: BaseException, output: str = "", printed: str = "") -> HostError:
        """Close the connection; returns the error to raise.

        Args:
            output: stderr of the agent, or of what ran instead of it.
            printed: what came instead of a message.
        """
        self.close()
        what = f"the machine stopped responding ({error})"
        hint = "invoke lab.status shows which machines run; invoke lab.up continues from here"
        if SUDO.search(output):
            what = "sudo asks for a password"
            hint = f"invoke lab.rescue {self.name} --fix restores access"
        elif NO_PYTHON.search(output):
            what, hint = "python3 is not installed", f"invoke lab.rebuild {self.name}"
        elif BROKEN_PYTHON.search(output):
            what, hint = "python3 does not work", f"invoke lab.rebuild {self.name}"
        elif printed:
            hint = PRINTS.format(name=self.name)
        text = "\n".join(part for part in (printed, shown_lines(output)) if part)
        return HostError(f"{self.name}: {what}", hint, output=text)


def _stderr(channel: Any) -> str:
    try:
        channel.settimeout(1)
        text: str = channel.recv_stderr(1 << 14).decode(errors="replace")
    except (OSError, EOFError):
        return ""
    return text
