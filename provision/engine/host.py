"""The one place that knows Fabric and Paramiko: a connection to a machine, and its agent."""

from __future__ import annotations

import base64
import json
import logging
import shlex
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import paramiko
from fabric import Config, Connection

from provision.core.endpoint import Endpoint
from provision.core.errors import HostError
from provision.core.patience import patience

# What Paramiko has to say of a lost connection is in the exception; its log is for its own authors.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

CONNECT_TIMEOUT = 10 * patience()
"""Seconds for TCP and for SSH's banner and authentication."""

PROVISION = Path(__file__).resolve().parents[1]

AGENT_FOLDERS = ("engine", "services", "database")
"""Below ``provision``: where the folders called ``agent`` are sent to a machine."""

LOADER = """
import sys, types, json
sources = json.loads(sys.stdin.buffer.readline())
packages = {name.rpartition('.')[0] for name in sources}
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in sources:
            import importlib.machinery
            return importlib.machinery.ModuleSpec(name, self, is_package=name in packages)
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec(compile(sources[module.__name__], module.__name__, 'exec'), module.__dict__)
sys.meta_path.insert(0, Finder())
from provision.engine.agent.main import main
main()
"""
"""What the bare python3 on a machine runs first: it imports the modules that follow on stdin."""

BOOT = "import sys;exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))"


@cache
def _payload() -> bytes:
    sources: dict[str, str] = {}
    for folder in AGENT_FOLDERS:
        for path in sorted((PROVISION / folder).glob("**/agent/*.py")):
            name = ".".join(path.relative_to(PROVISION.parent).with_suffix("").parts)
            sources[name.removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    for name in list(sources):
        while name := name.rpartition(".")[0]:
            sources.setdefault(name, "")
    loader = LOADER.encode()
    return b"%d\n%s%s\n" % (len(loader), loader, json.dumps(sources).encode())


@dataclass(frozen=True)
class Result:
    """A program that ended on a machine."""

    status: int
    out: str
    err: str

    @property
    def ok(self) -> bool:
        """Whether it ended with 0."""
        return self.status == 0


class RemoteError(HostError):
    """The agent answered that it could not do what was asked."""


@dataclass
class Host:
    """One machine over one kept SSH connection.

    Args:
        name: the machine's name, for messages.
        endpoint: how it is reached.
        say: told what the machine is doing, line by line.
    """

    name: str
    endpoint: Endpoint
    say: Callable[[str], None] = lambda _text: None
    round_trips: int = 0
    _connection: Any = None
    _channel: Any = None
    _buffer: bytes = b""
    _number: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    # --- the connection --------------------------------------------------------------------------

    def connect(self) -> None:
        """Log in; the machine must show the pinned host key.

        Raises:
            HostError: which machine, why, and what to type next.
        """
        with self._lock:
            if self._connection is not None:
                return
            connection = self._fabric()
            try:
                connection.open()
            except paramiko.BadHostKeyException as error:
                raise HostError(
                    f"{self.name}: the machine at {self.endpoint.address} shows another host key "
                    f"({_fingerprint(error.key)}) than the pinned one "
                    f"({_fingerprint(error.expected_key)}); nothing was sent to it",
                    "find out what answers at that address; if the machine was rightly made anew, "
                    "invoke lab.destroy and lab.up pin the new key",
                ) from None
            except paramiko.AuthenticationException as error:
                raise HostError(
                    f"{self.name}: login as {self.endpoint.user} with key {self.endpoint.key} "
                    f"was refused ({error})",
                    "look at sshd's journal on the machine: invoke lab.console " + self.name,
                ) from None
            except paramiko.SSHException as error:
                if "not found in known_hosts" in str(error):
                    raise HostError(
                        f"{self.name}: no host key is pinned for {self.endpoint.address}, and an "
                        "unknown key is refused",
                        "invoke lab.up records the keys of machines that it makes",
                    ) from None
                raise self._unreachable(error) from None
            except (OSError, EOFError) as error:
                raise self._unreachable(error) from None
            self._connection = connection
            self._tune()

    def _fabric(self) -> Any:
        end = self.endpoint
        gateway = jump(end) if end.jump else None
        return _connection(end, end.address, end.port, end.user, end.key, end.host_key, gateway)

    def _unreachable(self, error: BaseException) -> HostError:
        where = f"{self.endpoint.address} port {self.endpoint.port}"
        return HostError(
            f"{self.name}: no SSH connection to {where} ({error or type(error).__name__})",
            "invoke lab.status shows which machines run; invoke lab.up brings them up",
        )

    def _tune(self) -> None:
        """No Nagle delay (a command costs 4 ms instead of 48), and a dead machine is noticed."""
        sock = self._connection.transport.sock
        if not isinstance(sock, socket.socket):
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 4)):
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 13_000)

    @property
    def connection(self) -> Any:
        """Fabric's connection, for what the agent is not for: sessions, forwards, transfers."""
        self.connect()
        return self._connection

    def close(self) -> None:
        """End agent and connection; a request that another thread waits for fails at once."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            connection.close()
            if connection.gateway is not None:
                connection.gateway.close()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the agent -------------------------------------------------------------------------------

    def _agent(self) -> Any:
        if self._channel is None:
            self.connect()
            sudo = "" if self.endpoint.user == "root" else "sudo -n "
            channel = None
            try:
                channel = self._connection.transport.open_session(timeout=CONNECT_TIMEOUT)
                channel.exec_command(f"{sudo}python3 -I -c {shlex.quote(BOOT)}")
                channel.sendall(_payload())
            except (paramiko.SSHException, OSError, EOFError) as error:
                raise self._lost(error, _stderr(channel) if channel else "") from None
            self._channel = channel
            self._buffer = b""
            hello = self._read(CONNECT_TIMEOUT + 10)
            if "ready" not in hello:
                raise self._lost(RuntimeError(f"the agent said {hello}"))
        return self._channel

    def _read(self, timeout: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        channel = self._channel
        while b"\n" not in self._buffer:
            if channel is None:
                raise self._lost(RuntimeError("the connection was closed"))
            channel.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                received = channel.recv(1 << 16)
            except TimeoutError:
                raise self._lost(RuntimeError(f"no answer in {timeout:.0f} s")) from None
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise self._lost(error) from None
            if not received:
                said = _stderr(channel)
                raise self._lost(RuntimeError("the connection was closed"), said)
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            message: dict[str, Any] = json.loads(line)
        except ValueError:
            text = line.decode(errors="replace")
            raise self._lost(RuntimeError("it sent no JSON"), text) from None
        return message

    def _lost(self, error: BaseException, output: str = "") -> HostError:
        self.close()
        if "sudo" in output:
            what, advice = "sudo asks for a password", f"let {self.endpoint.user} use sudo -n"
        elif "python3" in output and "not found" in output:
            what, advice = "there is no python3", "apt-get install python3"
        else:
            what = f"the machine stopped answering ({error})"
            advice = "invoke lab.status shows which machines run; invoke lab.up goes on from here"
        return HostError(f"{self.name}: {what}", advice, output=output)

    def call(self, operation: str, args: Mapping[str, Any], timeout: float = 60.0) -> Any:
        """Ask the agent; progress it reports goes to ``say``.

        Args:
            operation: ``gather``, ``run`` or ``unit`` (see ``remote/agent.py``).
            args: its arguments; they travel through stdin, so secrets are safe in them.
            timeout: seconds without any word from the machine.

        Raises:
            HostError: the machine cannot be reached or stopped answering.
            RemoteError: it answered that this cannot be done.
        """
        timeout *= patience()
        with self._lock:
            channel = self._agent()
            self._number += 1
            self.round_trips += 1
            request = {"id": self._number, "op": operation, "args": args}
            try:
                channel.settimeout(timeout)
                channel.sendall(json.dumps(request).encode() + b"\n")
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise self._lost(error) from None
            while True:
                message = self._read(timeout)
                if message.get("id") != self._number:
                    continue  # to a request that Ctrl-C has cut short
                if "say" in message:
                    self.say(message["say"])
                elif "error" in message:
                    raise RemoteError(f"{self.name}: {message['error']}", output=message["output"])
                else:
                    return message["value"]

    def gather(self, probes: Mapping[str, Any], timeout: float = 60.0) -> Mapping[str, Any]:
        """Answer all probes in one round trip."""
        answers: Mapping[str, Any] = self.call("gather", {"probes": probes}, timeout)
        return answers

    def run(self, *argv: str, input: str = "", timeout: float = 60.0) -> Result:
        """Run one program as root; values are arguments, never shell text.

        Args:
            argv: the program and its arguments.
            input: text for its stdin; secrets belong here.
            timeout: seconds until it is ended and counts as status 124.
        """
        args = {"argv": list(argv), "input": input, "timeout": timeout}
        answer = self.call("run", args, timeout + 15)
        return Result(answer["status"], answer["out"], answer["err"])


def jump(endpoint: Endpoint) -> Any:
    """Fabric's connection to an endpoint's jump host, not yet opened; its key is pinned as well."""
    user, _, rest = endpoint.jump.rpartition("@")
    host, _, port = rest.partition(":")
    key = endpoint.jump_key or endpoint.key
    number = int(port or 22)
    return _connection(endpoint, host, number, user, key, endpoint.jump_host_key, None)


def _connection(
    endpoint: Endpoint, address: str, port: int, user: str, key: Path, host_key: str, gateway: Any
) -> Any:
    """A connection that accepts one host key and reads no file of the user's by itself."""
    connection = Connection(
        address,
        user=user or endpoint.user,
        port=port,
        config=Config(overrides={"load_ssh_configs": False}, lazy=True),
        gateway=gateway,
        connect_timeout=CONNECT_TIMEOUT,
        connect_kwargs={
            "key_filename": str(key),
            "look_for_keys": False,
            "allow_agent": endpoint.agent,
            "banner_timeout": CONNECT_TIMEOUT,
            "auth_timeout": CONNECT_TIMEOUT,
        },
    )
    # Fabric accepts any key by default; a lab accepts the pinned one alone.
    connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
    if host_key:
        kind, text = host_key.split()[:2]
        name = address if port == 22 else f"[{address}]:{port}"
        pinned = paramiko.PKey.from_type_string(kind, base64.b64decode(text))
        connection.client.get_host_keys().add(name, kind, pinned)
    return connection


def _stderr(channel: Any) -> str:
    try:
        channel.settimeout(1)
        text: str = channel.recv_stderr(1 << 14).decode(errors="replace")
    except (OSError, EOFError):
        return ""
    return text


def _fingerprint(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.fingerprint}"


__all__ = ["Host", "HostError", "RemoteError", "Result"]
