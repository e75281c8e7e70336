"""What machines report about TLS: other servers' certificates, and the clock."""

from __future__ import annotations

import time
from dataclasses import dataclass

from provision.engine.agent.files import Journal
from provision.engine.agent.process import AgentError, Log
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, action, collector


@dataclass(frozen=True)
class Handshake:
    """A TLS handshake with a server, whose certificate was verified.

    Args:
        error: why it failed; empty otherwise.
        version: such as ``TLSv1.3``.
        expires: seconds since 1970.
    """

    error: str = ""
    version: str = ""
    expires: float = 0.0


@dataclass(frozen=True)
class ClockReading:
    """A machine's clock, in seconds since 1970."""

    seconds: float


def handshake_probe(address: str, port: int, ca: str, server_name: str) -> Probe[Handshake]:
    """A handshake of the machine with a server; ``ca`` is a file on the machine."""
    args = {"address": address, "port": port, "ca": ca, "server_name": server_name}
    return Probe("tls", f"TLS of {server_name} at {address}:{port}", args, Handshake)


def clock_probe() -> Probe[ClockReading]:
    """The machine's clock."""
    return Probe("clock", "clock", {}, ClockReading)


@collector("tls")
def collect_handshake(args: Args) -> Handshake:
    """See `handshake_probe`."""
    import socket
    import ssl

    try:
        context = ssl.create_default_context(cafile=args["ca"])
        where = (args["address"], args["port"])
        with (
            socket.create_connection(where, timeout=3.0) as plain,
            context.wrap_socket(plain, server_hostname=args["server_name"]) as secure,
        ):
            certificate = secure.getpeercert() or {}
            expires = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
            return Handshake("", secure.version() or "", float(expires))
    except (OSError, ValueError, KeyError) as error:
        return Handshake(str(error) or repr(error))


@collector("clock")
def collect_clock(args: Args) -> ClockReading:
    """See `clock_probe`."""
    return ClockReading(time.time())


@action("fail")
def fail(args: Args, journal: Journal, log: Log) -> None:
    """Fail with ``reason``: only an operator can fix this.

    Raises:
        AgentError: always.
    """
    raise AgentError(args["reason"])
