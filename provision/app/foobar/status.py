"""Health check and version."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from foobar.context import context
from foobar.database import RETRY_SECONDS
from foobar.watch import Health

status = Blueprint("status", __name__)

FRESH_SECONDS = 0.5
"""Maximum age of the health that /healthz reports, while the servers respond."""

PATIENCE_SECONDS = 0.15
"""How long /healthz waits for the servers. A busy machine responds late to everything; a health
check that waited as long as a visitor would then miss its own timeout."""


@status.get("/healthz")
def healthz() -> Response:
    """Return 200 if a database can be read from, else 503.

    Responds in little more than PATIENCE_SECONDS, even if databases do not respond.
    """
    about = context()
    view = about.store.view(FRESH_SECONDS, PATIENCE_SECONDS)
    reader = next((name for name in about.settings.read_order if view.readable(name)), None)
    write: dict[str, Any] = {"server": view.primary}
    if len(view.writable) > 1:
        write["error"] = f"split brain: {' and '.join(view.writable)} are writable"
    elif view.primary is None:
        write["error"] = "no server is writable"
    body: dict[str, Any] = {
        "status": "ok" if reader else "unfit",
        "host": about.settings.host,
        "version": about.version,
        "read": {"server": reader},
        "write": write,
        "databases": {health.server: _as_json(health) for health in view.servers},
    }
    if not reader:
        body["error"] = "no database can be read from"
    response = jsonify(body)
    if not reader:
        response.status_code = 503
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


@status.get("/healthz/write")
def writable() -> Response:
    """Return 200 if this server reaches a writable primary, else 503.

    A balancer sends writes to servers with 200; reads work on the others, too.
    """
    view = context().store.view(FRESH_SECONDS, PATIENCE_SECONDS)
    if view.primary is not None:
        return jsonify(status="ok", server=view.primary)
    several = f"split brain: {' and '.join(view.writable)} are writable"
    response = jsonify(status="unfit", error=several if view.writable else "no server is writable")
    response.status_code = 503
    response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


@status.get("/version")
def version() -> Response:
    """Return version, host, release and the digest of its files when the process started."""
    about = context()
    return jsonify(
        version=about.version,
        host=about.settings.host,
        release=about.release,
        digest=about.digest,
    )


def _as_json(health: Health) -> dict[str, str]:
    return {"state": health.state} | ({"error": health.error} if health.error else {})
