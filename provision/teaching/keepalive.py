"""A client of the site with one persistent connection, as a browser has."""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from provision.core.lab import Lab
from provision.services.tls.https import BODY_LIMIT, SiteResponse, connect, error_text

if TYPE_CHECKING:
    from urllib3.connection import HTTPConnection

GONE = (ConnectionError, http.client.RemoteDisconnected, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""Errors of a persistent connection that the server has closed."""


@dataclass
class KeepAliveClient:
    """Sends requests to the lab's front, one after the other.

    In a lab with TLS, it trusts only the lab's CA.

    Args:
        lab: its network must be up (`Provider.network_problem`).
        timeout: seconds for connecting and for each read.
    """

    lab: Lab
    timeout: float
    _connection: HTTPConnection | None = None

    def request(self, method: str, path: str, body: str | None = None) -> SiteResponse:
        """The response; status 0 and the error if there was none.

        Args:
            body: JSON.
        """
        from urllib3.exceptions import HTTPError

        headers = {"Host": self.lab.site, "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        reused = self._connection is not None
        connection, self._connection = self._connection, None
        try:
            connection = connection or connect(self.lab, str(self.lab.address), self.timeout)
            connection.request(method, path, body, headers, preload_content=False)
            response = connection.getresponse()
            text = response.read(BODY_LIMIT).decode(errors="replace")
            complete = not response.read()
        except (OSError, http.client.HTTPException, HTTPError) as error:
            if connection is not None:
                connection.close()
            cause = error.__cause__ or error  # urllib3 wraps some errors in its own
            if reused and isinstance(cause, GONE) and method == "GET":
                # The server closed the idle connection. RFC 9110, 9.2.2: clients retry idempotent
                # requests automatically.
                return self.request(method, path, body)
            return SiteResponse(error=error_text(error))
        lower = {name.lower(): value for name, value in response.headers.items()}
        if not complete or lower.get("connection", "").lower() == "close":
            connection.close()
        else:
            self._connection = connection
        return SiteResponse(response.status, lower, text)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
