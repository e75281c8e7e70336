"""A server of Incus: its address, connections to it, and why it cannot be used.

The files are those of the program ``incus`` (``incus remote add``): ``config.yml``, ``client.crt``,
``client.key`` and ``servercerts/<remote>.crt`` in INCUS_CONF, or ``~/.config/incus``.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from provision.setup.install import how_to_install
from provision.setup.problem import PreflightProblem
from provision.setup.system import System, detect

SOCKETS = (Path("/run/incus/unix.socket"), Path("/var/lib/incus/unix.socket"))
PORT = 8443
ADD = "incus remote add NAME https://ADDRESS:8443 --token TOKEN"
"""How a user adds a remote, with a token of ``incus config trust add`` on the server."""

CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Remote:
    """A server of Incus, and the project that a lab's machines are in.

    Args:
        name: of the remote; empty for the server behind a Unix socket.
        address: a URL such as ``https://192.0.2.1:8443``, or the path of a Unix socket.
        folder: of the client's configuration; empty for a Unix socket.
    """

    name: str
    address: str
    project: str = "default"
    folder: str = ""

    @property
    def socket(self) -> str:
        """The path of its Unix socket; empty for a server on the network."""
        return "" if self.address.startswith("https://") else self.address

    @property
    def host(self) -> str:
        """Its host name or address; empty for a Unix socket."""
        return "" if self.socket else urlsplit(self.address).hostname or ""

    @property
    def port(self) -> int:
        """Its TCP port."""
        return urlsplit(self.address).port or PORT

    @property
    def certificate(self) -> Path:
        """The client's certificate; its key is beside it, as ``client.key``."""
        return Path(self.folder) / "client.crt"

    @property
    def server_certificate(self) -> Path:
        """The pinned certificate of the server."""
        return Path(self.folder) / "servercerts" / f"{self.name}.crt"

    @property
    def prefix(self) -> str:
        """What names have in commands of the program ``incus``, such as ``hall:``, or empty."""
        return f"{self.name}:" if self.name else ""

    def __str__(self) -> str:
        return f"remote {self.name} ({self.address})" if self.name else self.address


def configuration(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of the client's configuration."""
    return Path(environ.get("INCUS_CONF") or "~/.config/incus").expanduser()


def default_socket(environ: Mapping[str, str] = os.environ) -> str:
    """The path of the Unix socket of this computer's server, which need not exist."""
    existing = [str(path) for path in SOCKETS if path.exists()]
    return environ.get("INCUS_SOCKET", "") or [*existing, str(SOCKETS[-1])][0]


def socket_of(address: str) -> str:
    """The path of the Unix socket of a remote's address, or empty."""
    if not address.startswith("unix:"):
        return ""
    return address.removeprefix("unix:").removeprefix("//") or str(SOCKETS[-1])


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("incus", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Connect within `CONNECT_SECONDS`."""
        family = getattr(socket, "AF_UNIX", None)
        if family is None:
            raise OSError("this system has no Unix sockets")
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(CONNECT_SECONDS)
            self.sock.connect(self._path)
            self.sock.settimeout(self.timeout)
        except BaseException:
            self.sock.close()
            raise


class TlsConnection(http.client.HTTPSConnection):
    """HTTPS to a server with a pinned certificate, which need not have the server's name."""

    def connect(self) -> None:
        """Connect within `CONNECT_SECONDS`."""
        self.timeout, timeout = CONNECT_SECONDS, self.timeout
        try:
            super().connect()
        finally:
            self.timeout = timeout
        self.sock.settimeout(timeout)


def tls_context(remote: Remote) -> ssl.SSLContext:
    """TLS with the client's certificate, and only the pinned certificate of the server.

    Raises:
        OSError: when a file is missing or damaged (`ssl.SSLError`).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # self-signed, and pinned
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(remote.server_certificate)
    context.load_cert_chain(remote.certificate, remote.certificate.with_suffix(".key"))
    return context


# --- why it cannot be used -----------------------------------------------------------------------


def not_configured(system: System | None = None) -> PreflightProblem:
    """No server on this computer, and none requested."""
    own = system or detect()
    what = "Incus is not configured: LAB_INCUS is not set"
    if own.kind == "Linux":
        what += f", and there is no server on this computer ({SOCKETS[-1]} does not exist)"
    return PreflightProblem(what, how_to_configure(own))


def how_to_configure(system: System) -> str:
    """How to use a server on the network, or one on this computer."""
    install = how_to_install("Incus", system)
    if system.kind != "Linux":
        return f"{install}; {ADD}; then LAB_INCUS=NAME"
    return f"{ADD}, then LAB_INCUS=NAME; or a server on this computer: {install}"


def unreadable_certificates(remote: Remote, error: OSError) -> PreflightProblem:
    """What `tls_context` has raised."""
    key = remote.certificate.with_suffix(".key")
    files = [str(path) for path in (remote.server_certificate, remote.certificate, key)]
    return PreflightProblem(
        f"a certificate for the Incus {remote} cannot be read ({error}): " + ", ".join(files),
        f"incus remote remove {remote.name}; {ADD.replace('NAME', remote.name)}",
    )


def unreachable(
    remote: Remote, error: Exception, environ: Mapping[str, str] = os.environ
) -> PreflightProblem:
    """A server that a request could not be sent to, or did not respond."""
    reason = getattr(error, "strerror", "") or str(error) or type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        return PreflightProblem(
            f"Incus at {remote} presents another certificate than the pinned one "
            f"({remote.server_certificate})",
            f"if the server was set up again: incus remote remove {remote.name}; "
            + ADD.replace("NAME", remote.name),
        )
    if isinstance(error, PermissionError):
        return PreflightProblem(
            f"the current user may not use Incus ({remote.socket}: permission denied)",
            'sudo adduser "$(id -un)" incus-admin, then log in again',
        )
    if remote.socket:
        missing = isinstance(error, FileNotFoundError)
        if missing and Path(remote.socket) in SOCKETS and not environ.get("LAB_INCUS"):
            return not_configured()
        action = "restart" if isinstance(error, TimeoutError) else "start"
        return PreflightProblem(
            f"Incus is unreachable at {remote.socket} ({reason})",
            how_to_configure(detect()) if missing else f"sudo systemctl {action} incus",
        )
    return PreflightProblem(
        f"Incus is unreachable at {remote} ({reason})",
        "check that it runs and listens: on the server, incus config get core.https_address",
    )


def untrusted(remote: Remote) -> PreflightProblem:
    """A server that does not know this client's certificate."""
    return PreflightProblem(
        f"Incus at {remote} does not trust this client's certificate",
        "on the server: incus config trust add NAME; here: incus remote remove "
        f"{remote.name}, then {ADD.replace('NAME', remote.name)}",
    )


def not_incus(remote: Remote, status: int) -> PreflightProblem:
    """Something else listens there.

    Args:
        status: of HTTP.
    """
    return PreflightProblem(
        f"the server at {remote} is not Incus: its response (HTTP {status}) is not JSON of it",
        "check LAB_INCUS: incus remote list",
    )
