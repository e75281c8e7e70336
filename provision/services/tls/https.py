"""HTTP requests to the lab: plain, or over TLS that trusts the lab's own authority alone."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from provision.core.lab import Lab
from provision.core.waiting import timeout_factor

if TYPE_CHECKING:
    from urllib3.connection import HTTPConnection, HTTPSConnection

HTTP_PORT, HTTPS_PORT = 80, 443
BODY_LIMIT = 65536
"""Bytes of a response that are kept."""


@dataclass(frozen=True)
class SiteResponse:
    """The response to one request.

    Args:
        status: the HTTP status; 0 without a response.
        headers: with names in lower case.
        body: the first 64 KiB.
        error: why there is no response.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    error: str = ""

    def header(self, name: str) -> str:
        """A header's value; empty without that header."""
        return self.headers.get(name.lower(), "")


@dataclass(frozen=True)
class TlsHandshake:
    """What a TLS handshake with the lab's front negotiated.

    Args:
        version: such as ``TLSv1.3``; empty when the handshake failed.
        cipher: the cipher suite's name.
        ends: when the certificate expires, in seconds since 1970.
        names: the certificate's subject alternative names.
        error: why the handshake failed.
    """

    version: str = ""
    cipher: str = ""
    ends: float = 0.0
    names: tuple[str, ...] = ()
    error: str = ""


def connect(lab: Lab, address: str, timeout: float, *, plain: bool = False) -> HTTPConnection:
    """A connection to the lab's front or to one of its machines; opened by the first request.

    A machine other than the front is verified by its own name.

    Args:
        timeout: seconds for connecting and for each read.
    """
    from urllib3.connection import HTTPConnection

    if plain or not lab.topology.https:
        return HTTPConnection(address, HTTP_PORT, timeout=timeout)
    webs = {str(m.address): m.name for m in lab.with_role("nginx")}
    return _tls_connection(lab, address, webs.get(address, lab.site), timeout)


def _tls_connection(lab: Lab, address: str, name: str, timeout: float) -> HTTPSConnection:
    from urllib3.connection import HTTPSConnection

    ca = str(lab.directory / "ca.pem")
    return HTTPSConnection(address, HTTPS_PORT, timeout=timeout, server_hostname=name, ca_certs=ca)


def request(
    lab: Lab,
    path: str,
    method: str = "GET",
    *,
    address: str = "",
    timeout: float = 5.0,
    plain: bool = False,
) -> SiteResponse:
    """One request to the lab's front, or to another address, for the site's host name.

    Args:
        lab: its network must be up (`Provider.network_problem`).
        timeout: seconds for connecting and for each read, multiplied by `timeout_factor`.
    """
    import http.client

    from urllib3.exceptions import HTTPError

    headers = {"Host": lab.site, "Accept": "text/html"}
    seconds = timeout * timeout_factor()
    connection = connect(lab, address or str(lab.address), seconds, plain=plain)
    with contextlib.closing(connection):
        try:
            connection.request(method, path, headers=headers, preload_content=False)
            response = connection.getresponse()
            with contextlib.closing(response):  # it holds the socket once it announces the end
                body = response.read(BODY_LIMIT).decode(errors="replace")
        except (OSError, http.client.HTTPException, HTTPError) as error:
            return SiteResponse(error=error_text(error))
    lower = {name.lower(): value for name, value in response.headers.items()}
    return SiteResponse(response.status, lower, body)


def error_text(error: BaseException) -> str:
    """The reason of a failed request; urllib3 wraps the operating system's error in its own."""
    cause = error.__cause__ or error
    return str(cause) or repr(cause)


def handshake(lab: Lab, timeout: float = 5.0) -> TlsHandshake:
    """One TLS handshake with the lab's front, which must have a certificate for the site."""
    from urllib3.exceptions import HTTPError

    connection = _tls_connection(lab, str(lab.address), lab.site, timeout)
    with contextlib.closing(connection):
        try:
            connection.connect()
            secure: Any = connection.sock
            certificate = secure.getpeercert() or {}
            return TlsHandshake(
                secure.version() or "",
                (secure.cipher() or ("",))[0],
                ssl.cert_time_to_seconds(str(certificate["notAfter"])),
                tuple(str(value) for _, value in certificate.get("subjectAltName", ())),
            )
        except (OSError, ValueError, KeyError, HTTPError) as error:
            return TlsHandshake(error=error_text(error))
