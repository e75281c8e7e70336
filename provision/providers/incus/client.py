"""A client of Incus' REST API (``rest-api`` in its documentation), with the standard library.

Every request has a connection of its own: machines are worked on in parallel.
"""

from __future__ import annotations

import http.client
import json
import math
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from http import HTTPStatus
from typing import IO, Any
from urllib.parse import quote, urlencode

from provision.core import clock
from provision.core.errors import ProviderError
from provision.core.waiting import timeout_factor
from provision.providers.incus.remote import Remote, tls_context
from provision.setup import incus_server
from provision.setup.incus_server import TlsConnection, UnixConnection
from provision.setup.problem import PreflightProblem

API = "/1.0"
REQUEST_SECONDS = 60.0 * timeout_factor()
OPERATION_SECONDS = 600.0 * timeout_factor()
POLL_SECONDS = 20
"""How long one request waits for an operation."""

RESPONSE_SECONDS = 30.0 * timeout_factor()
"""Until Incus responds after that."""

NOT_ENDED = "context deadline exceeded"
"""Incus' response when an operation has not ended within `POLL_SECONDS`."""


class IncusError(ProviderError):
    """Incus refused a request, or an operation of it failed.

    Args:
        code: the HTTP status; 0 for an operation.
    """

    def __init__(self, what: str, hint: str = "", code: int = 0) -> None:
        super().__init__(what, hint)
        self.code = code


class OperationTimeoutError(IncusError):
    """An operation has not ended in time."""


class IncusClient:
    """Requests to one server, in one project."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    def get(self, path: str, **query: str) -> Any:
        """The metadata that a path has, such as ``/networks/lab-1``."""
        return self.request("GET", path, query=query)

    def text(self, path: str) -> str:
        """A file that the API has, such as the log of an instance; empty when there is none."""
        status, data = self._exchange("GET", path, b"", {}, {})
        return data.decode(errors="replace") if status == HTTPStatus.OK else ""

    def exists(self, path: str, **query: str) -> bool:
        """Whether there is something at a path."""
        try:
            self.get(path, **query)
        except IncusError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            return False
        return True

    def post(self, path: str, body: object, **query: str) -> Any:
        """Create something, and wait until it is there; the operation's metadata."""
        return self.request("POST", path, body, query)

    def put(self, path: str, body: object, **query: str) -> Any:
        """Replace something, and wait until it is done."""
        return self.request("PUT", path, body, query)

    def patch(self, path: str, body: object, **query: str) -> Any:
        """Change a part of something, and wait until it is done."""
        return self.request("PATCH", path, body, query)

    def delete(self, path: str, **query: str) -> None:
        """Remove something, and wait until it is gone; what does not exist is no error."""
        try:
            self.request("DELETE", path, query=query)
        except IncusError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a request with a JSON body, and wait for its operation.

        Raises:
            IncusError: when Incus refuses it, or the operation fails.
            ProviderError: when the server cannot be reached, or does not trust this client.
        """
        data = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        answer = self._send(method, path, data, headers, query or {})
        if answer.get("type") != "async":
            return answer.get("metadata")
        return self.wait(answer["metadata"])

    def start(self, path: str, body: object, seconds: float = REQUEST_SECONDS) -> Mapping[str, Any]:
        """Begin an operation without waiting for it; the operation.

        Args:
            seconds: for the response.
        """
        headers = {"Content-Type": "application/json"}
        answer = self._send("POST", path, json.dumps(body).encode(), headers, {}, seconds)
        operation: Mapping[str, Any] = answer.get("metadata") or {}
        return operation

    def upload(
        self,
        path: str,
        stream: IO[bytes] | Iterable[bytes] | bytes,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a body that is no JSON, and wait for the operation.

        Args:
            stream: what has no length is sent in chunks.
        """
        own = {"Content-Type": "application/octet-stream", **headers}
        answer = self._send("POST", path, stream, own, query or {})
        return self.wait(answer["metadata"]) if answer.get("type") == "async" else None

    def wait(self, operation: Mapping[str, Any], seconds: float = OPERATION_SECONDS) -> Any:
        """Wait for an operation, and return its metadata.

        Raises:
            IncusError: when it fails, or has not ended in time.
        """
        deadline = clock.now() + seconds
        path = f"/operations/{quote(str(operation['id']))}/wait"
        current = operation
        while current.get("status_code", 0) < 200:
            remaining = deadline - clock.now()
            if remaining <= 0:
                raise OperationTimeoutError(
                    f"Incus: {operation.get('description', 'an operation')} has not ended after "
                    f"{seconds:g} s",
                    f"incus operation list {self.remote.prefix}".rstrip(),
                )
            poll = min(POLL_SECONDS, math.ceil(remaining))
            try:
                query = {"timeout": str(poll)}
                limit = poll + min(remaining, RESPONSE_SECONDS)
                current = self._send("GET", path, b"", {}, query, limit)["metadata"]
            except IncusError as error:
                if NOT_ENDED not in error.what:
                    raise
        if current["status_code"] != 200:
            raise _refusal(str(current.get("err") or current.get("status")), 0, self.remote)
        return current.get("metadata")

    def _send(
        self,
        method: str,
        path: str,
        body: Any,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        seconds: float = REQUEST_SECONDS,
    ) -> dict[str, Any]:
        status, data = self._exchange(method, path, body, headers, query, seconds)
        return _parse(data, status, self.remote)

    def _exchange(
        self,
        method: str,
        path: str,
        body: Any,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        seconds: float = REQUEST_SECONDS,
    ) -> tuple[int, bytes]:
        """The status and the body of the response."""
        words = {"project": self.remote.project, **query}
        url = f"{API}{path}?{urlencode(words)}" if path else API
        with closing(self.connection(seconds)) as connection:
            try:
                connection.request(method, url, body=body, headers=dict(headers))
                response = connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException) as error:
                raise unreachable(self.remote, error) from None

    def connection(self, seconds: float = REQUEST_SECONDS) -> http.client.HTTPConnection:
        """A new connection, which is not open yet.

        Args:
            seconds: within which each block of the response must arrive.

        Raises:
            ProviderError: when the certificates cannot be read.
        """
        if self.remote.socket:
            return UnixConnection(self.remote.socket, seconds)
        context = tls_context(self.remote)
        return TlsConnection(self.remote.host, self.remote.port, timeout=seconds, context=context)

    def server(self) -> Mapping[str, Any]:
        """The server's facts (``GET /1.0``).

        Raises:
            ProviderError: when it does not trust this client, or has no such project.
        """
        facts: Mapping[str, Any] = self.get("")
        if facts.get("auth") != "trusted":
            raise _error(incus_server.untrusted(self.remote))
        project = self.remote.project
        if not self.exists(f"/projects/{quote(project)}"):
            raise ProviderError(
                f"Incus at {self.remote} has no project {project!r}",
                f"incus project create {self.remote.prefix}{project}, or choose another one: "
                "LAB_INCUS_PROJECT=NAME",
            )
        return facts


def _parse(data: bytes, status: int, remote: Remote) -> dict[str, Any]:
    answer: object = None
    with suppress(ValueError):
        answer = json.loads(data)
    if not isinstance(answer, dict) or "type" not in answer:
        raise _error(incus_server.not_incus(remote, status))
    if answer["type"] == "error":
        code = int(answer.get("error_code") or status)
        raise _refusal(str(answer.get("error", "")), code, remote)
    return answer


def _refusal(message: str, code: int, remote: Remote) -> IncusError:
    """The error for a message of Incus."""
    words = " ".join(message.split()) or f"HTTP {code}"
    hint = ""
    if code == HTTPStatus.FORBIDDEN:
        hint = (
            f"this client may not use project {remote.project}: on the server, incus config trust "
            "list; or choose another one: LAB_INCUS_PROJECT=NAME"
        )
    elif "Project not found" in message:
        project = f"{remote.prefix}{remote.project}"
        hint = f"incus project create {project}, or LAB_INCUS_PROJECT=NAME"
    elif "peer node" in message and "down" in message:
        hint = (
            f"start that member; if it is lost for good: incus cluster remove --force "
            f"{remote.prefix}MEMBER"
        )
    return IncusError(f"Incus at {remote}: {words}", hint, code)


def unreachable(remote: Remote, error: Exception) -> ProviderError:
    """The error for a server that cannot be reached."""
    return _error(incus_server.unreachable(remote, error))


def _error(problem: PreflightProblem) -> ProviderError:
    return ProviderError(problem.what, problem.hint)
