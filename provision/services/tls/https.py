"""Connections to the lab's front: plain HTTP, or TLS that trusts the lab's own authority alone."""

from __future__ import annotations

import functools
import http.client
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provision.core.lab import Lab


@functools.cache
def _trusting(ca: Path, _changed: float) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def trusting(lab: Lab) -> ssl.SSLContext:
    """A client's TLS settings with the lab's authority as the only one that counts.

    Raises:
        OSError: when the lab has no ``ca.pem`` yet.
    """
    ca = lab.directory / "ca.pem"
    return _trusting(ca, ca.stat().st_mtime)


def connect(
    lab: Lab, address: str, timeout: float, *, plain: bool = False
) -> http.client.HTTPConnection:
    """A connection for requests, made when TLS is spoken, else on the first request.

    Args:
        lab: whose topology says whether TLS is spoken.
        address: of the front, or of another machine, whose name is verified then.
        timeout: seconds for connecting and for each read.
        plain: port 80 without TLS in any case.

    Raises:
        OSError: no connection, or a certificate that is not the lab's or not this name's.
    """
    if plain or not lab.topology.https:
        return http.client.HTTPConnection(address, 80, timeout)
    webs = {str(m.address): m.name for m in lab.with_role("nginx")}
    name = webs.get(address, lab.site)
    context = trusting(lab)
    made = http.client.HTTPSConnection(name, 443, timeout=timeout, context=context)
    raw = socket.create_connection((address, 443), timeout)
    try:
        # As http.client does: a head and a body, sent one after the other, wait for no answer.
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.sock = context.wrap_socket(raw, server_hostname=name)
    except BaseException:
        raw.close()
        raise
    return made


@dataclass(frozen=True)
class Shown:
    """What the front's TLS said of itself.

    Args:
        version: such as ``TLSv1.3``; empty without a handshake.
        cipher: the cipher suite's name.
        ends: when its certificate ends, in seconds since 1970.
        names: what the certificate is for.
        error: why there was no handshake.
    """

    version: str = ""
    cipher: str = ""
    ends: float = 0.0
    names: tuple[str, ...] = ()
    error: str = ""


def handshake(lab: Lab, timeout: float = 5.0) -> Shown:
    """One TLS handshake with the front, verified as the site."""
    try:
        with (
            socket.create_connection((str(lab.address), 443), timeout) as raw,
            trusting(lab).wrap_socket(raw, server_hostname=lab.site) as secure,
        ):
            cert = secure.getpeercert() or {}
            names: Any = cert.get("subjectAltName", ())
            return Shown(
                secure.version() or "",
                (secure.cipher() or ("",))[0],
                ssl.cert_time_to_seconds(str(cert["notAfter"])),
                tuple(str(value) for _, value in names),
            )
    except (OSError, ValueError, KeyError) as error:
        return Shown(error=str(error) or repr(error))
