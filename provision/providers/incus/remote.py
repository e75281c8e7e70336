"""Which Incus server a lab is on: the local one, or a remote of the Incus client's configuration.

The files are those of the program ``incus`` (``incus remote add``): ``config.yml``, ``client.crt``,
``client.key`` and ``servercerts/<remote>.crt`` in INCUS_CONF, or ``~/.config/incus``.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from provision.core.errors import ProviderError, UsageError
from provision.core.suggestions import suggestion

SOCKETS = (Path("/run/incus/unix.socket"), Path("/var/lib/incus/unix.socket"))
PORT = 8443
ADD = "incus remote add NAME https://ADDRESS:8443 --token TOKEN"
"""How a user adds a remote, with a token of ``incus config trust add`` on the server."""


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

    def __str__(self) -> str:
        return f"remote {self.name} ({self.address})" if self.name else self.address


def requested(environ: Mapping[str, str] = os.environ) -> Remote:
    """The server that the environment asks for.

    LAB_INCUS is the name of a remote, or the path of a Unix socket; without it, the local server.
    LAB_INCUS_PROJECT is a project; without it, the remote's own.

    Raises:
        UsageError: when the remote is unknown or has another protocol.
        ProviderError: when the configuration cannot be read.
    """
    text = environ.get("LAB_INCUS", "").strip()
    project = environ.get("LAB_INCUS_PROJECT", "").strip()
    if not text or "/" in text:
        existing = [str(path) for path in SOCKETS if path.exists()]
        socket = text or environ.get("INCUS_SOCKET", "") or [*existing, str(SOCKETS[-1])][0]
        if "://" in socket:
            raise UsageError(
                f"LAB_INCUS is {socket}, and not the name of a remote or the path of a socket",
                f"{ADD}, then LAB_INCUS=NAME",
            )
        return Remote("", socket, project or "default")
    folder = Path(environ.get("INCUS_CONF") or "~/.config/incus").expanduser()
    remotes = _remotes(folder)
    if text not in remotes:
        known = ", ".join(remotes) or "none"
        raise UsageError(
            f"unknown Incus remote {text!r}{suggestion(text, remotes)}",
            f"{folder} has: {known}; another one: {ADD.replace('NAME', text)}",
        )
    remote = remotes[text]
    address = str(remote.get("addr", ""))
    if address.startswith("unix:"):
        path = address.removeprefix("unix:").removeprefix("//") or str(SOCKETS[-1])
        return Remote("", path, project or str(remote.get("project") or "default"))
    if remote.get("protocol", "incus") != "incus" or not address.startswith("https://"):
        raise UsageError(
            f"the Incus remote {text} ({address}) is no server that can run machines",
            "choose another one: incus remote list",
        )
    return Remote(text, address, project or str(remote.get("project") or "default"), str(folder))


def tls_context(remote: Remote) -> ssl.SSLContext:
    """TLS with the client's certificate, and only the pinned certificate of the server.

    Raises:
        ProviderError: when a file is missing or damaged.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # self-signed, and pinned
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    key = remote.certificate.with_suffix(".key")
    try:
        context.load_verify_locations(remote.server_certificate)
        context.load_cert_chain(remote.certificate, key)
    except (OSError, ssl.SSLError) as error:
        missing = [str(p) for p in (remote.server_certificate, remote.certificate, key)]
        raise ProviderError(
            f"a certificate for the Incus {remote} cannot be read ({error}): " + ", ".join(missing),
            f"incus remote remove {remote.name}; {ADD.replace('NAME', remote.name)}",
        ) from None
    return context


def _remotes(folder: Path) -> dict[str, Mapping[str, Any]]:
    path = folder / "config.yml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return {str(name): dict(value) for name, value in (data.get("remotes") or {}).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ProviderError(
            f"{path} cannot be read: {reason}", f"repair it, or move it away and: {ADD}"
        ) from None
