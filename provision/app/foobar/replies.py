"""Headers and cookies of every response."""

from __future__ import annotations

import re
import uuid
from typing import TypeVar

from flask import Flask, Response, g, request

from foobar import gtid
from foobar.context import context
from foobar.database import Read, Written

LAST_WRITE_COOKIE = "foobar_seen"
LAST_WRITE_SECONDS = 60

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)
_JSON_PATHS = ("/api", "/healthz", "/version")
_POLICY = (
    "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)

T = TypeVar("T")


def wants_json() -> bool:
    """Return whether the response must be JSON: /api, /healthz and /version."""
    return any(request.path == path or request.path.startswith(f"{path}/") for path in _JSON_PATHS)


def request_id() -> str:
    """Return the id of this request: the proxy's X-Request-ID if valid, else a new one."""
    if "request_id" not in g:
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    return str(g.request_id)


def last_write() -> str | None:
    """Return the GTID set of the visitor's last write, if the cookie has a valid one."""
    return gtid.parse(request.cookies.get(LAST_WRITE_COOKIE))


def record_read(read: Read[T]) -> Read[T]:
    """Record the server of a read for the response headers; return the argument."""
    g.read_from = read.server
    return read


def record_write(written: Written[T]) -> Written[T]:
    """Record the server of a write for the headers and the cookie; return the argument."""
    g.written_to = written.server
    g.last_write = written.last_write
    return written


def install(app: Flask) -> None:
    """Add the headers to every response of an application."""

    @app.after_request
    def add_headers(response: Response) -> Response:
        about = context()
        response.headers["X-App-Host"] = about.settings.host
        response.headers["X-App-Version"] = about.version
        response.headers["X-Request-ID"] = request_id()
        for header, key in (("X-Read-From", "read_from"), ("X-Written-To", "written_to")):
            if key in g:
                response.headers[header] = g.get(key)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        # Not "no-referrer": browsers would then send "Origin: null" with the form.
        response.headers["Referrer-Policy"] = "same-origin"
        if request.endpoint != "static":
            response.headers["Cache-Control"] = "no-store"
        if g.get("last_write"):
            response.set_cookie(
                LAST_WRITE_COOKIE,
                g.last_write,
                max_age=LAST_WRITE_SECONDS,
                httponly=True,
                samesite="Lax",
                secure=request.headers.get("X-Forwarded-Proto", "").lower() == "https",
            )
        return response
