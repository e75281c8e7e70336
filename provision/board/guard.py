"""What every request to the board must pass: its host, its origin, its size, and a valid cookie.

A web page of another site can send requests to the board from a learner's browser. It cannot
choose the headers Host and Origin, and it cannot read a SameSite=Strict cookie into its requests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from provision.board.access import Gate
from provision.board.limits import BODY_BYTES

PUBLIC = frozenset({"/", "/api/login", "/static/login.js", "/static/board.css", "/static/icon.svg"})
"""What a browser without a code gets: the page that asks for one."""

SAFE = frozenset({"GET", "HEAD"})
METHODS = SAFE | {"POST"}

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of everything but the page itself, whose styles have a nonce."""


class Refusal(Exception):  # noqa: N818 - a response, not a fault
    """A request that is not served."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, dict(headers or {})


class RequestGuard:
    """The outermost ASGI application of the board.

    Args:
        hosts: the values of Host under which the board is reached, such as ``127.0.0.1:8090``.
        secure: whether it is served over TLS.
        cookie: the cookie's name.
    """

    def __init__(
        self, app: ASGIApp, gate: Gate, hosts: frozenset[str], *, secure: bool, cookie: str
    ) -> None:
        self._app, self._gate, self._hosts = app, gate, hosts
        self._scheme = "https" if secure else "http"
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            headers = _headers(scope)
            self._check(scope, headers)
            limited = _limited(receive, headers) if scope["type"] == "http" else receive
            scope["visitor"] = self._gate.visitor(_cookie(headers, self._cookie))
            if scope["visitor"] is None and scope["path"] not in PUBLIC:
                raise Refusal(401, "this board needs a code: open its address again")
            await self._app(scope, limited, _with_headers(send, scope))
        except Refusal as refusal:
            await refuse(scope, send, refusal)

    def _check(self, scope: Scope, headers: Mapping[str, list[str]]) -> None:
        host = headers.get("host", [])
        if len(host) != 1 or host[0].lower() not in self._hosts:
            raise Refusal(421, "this board has another address")
        unsafe = scope["type"] == "websocket" or scope["method"] not in SAFE
        if scope["type"] == "http" and scope["method"] not in METHODS:
            raise Refusal(405, "method not allowed", {"Allow": "GET, HEAD, POST"})
        if unsafe and headers.get("origin", []) != [f"{self._scheme}://{host[0].lower()}"]:
            raise Refusal(403, "the request comes from another site")
        site = headers.get("sec-fetch-site", ["none"])
        if site[0] not in ("same-origin", "none") and scope["path"] != "/":
            raise Refusal(403, "the request comes from another site")
        if scope["type"] == "http" and scope["method"] == "POST":
            kind = headers.get("content-type", [""])[0].partition(";")[0].strip()
            if kind != "application/json":
                raise Refusal(415, "send JSON")


def _headers(scope: Scope) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return values


def _cookie(headers: Mapping[str, list[str]], name: str) -> str:
    cookies: SimpleCookie = SimpleCookie()
    try:
        for text in headers.get("cookie", []):
            cookies.load(text[:8192])
    except CookieError:
        return ""
    return cookies[name].value if name in cookies else ""


def _limited(receive: Receive, headers: Mapping[str, list[str]]) -> Receive:
    """A body of at most `BODY_BYTES`, whatever its Content-Length says."""
    length = headers.get("content-length", ["0"])[0]
    if not length.isdigit() or int(length) > BODY_BYTES:
        raise Refusal(413, f"a request has at most {BODY_BYTES} bytes")
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > BODY_BYTES:
            raise HTTPException(413, f"a request has at most {BODY_BYTES} bytes")
        return message

    return limited


def _with_headers(send: Send, scope: Scope) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            added = dict(HEADERS)
            if b"content-security-policy" not in present:
                added["Content-Security-Policy"] = POLICY
            if b"cache-control" not in present:
                added["Cache-Control"] = "no-store"
            if scope.get("scheme") == "https":
                added["Strict-Transport-Security"] = "max-age=86400"
            message["headers"] = [
                *message["headers"],
                *((n.lower().encode(), v.encode()) for n, v in added.items()),
            ]
        await send(message)

    return sending


async def refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    """Send a refusal as JSON; a WebSocket is not accepted."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.text[:120]})
        return
    body = json.dumps({"error": refusal.text}).encode()
    headers: dict[str, Any] = {
        **HEADERS,
        **refusal.headers,
        "Content-Security-Policy": POLICY,
        "Cache-Control": "no-store",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    }
    await send(
        {
            "type": "http.response.start",
            "status": refusal.status,
            "headers": [(n.lower().encode(), v.encode()) for n, v in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})
