"""Refuses changes that another site's page makes a browser send (CSRF)."""

from __future__ import annotations

from urllib.parse import urlsplit

from werkzeug.datastructures import Headers

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def is_foreign(headers: Headers, host: str) -> bool:
    """Say whether a browser sent this request on behalf of another site.

    Browsers set Sec-Fetch-Site (Fetch Metadata, on secure origins only) and Origin (Fetch
    Standard); programs set neither and are let through. Ports are not compared: a proxy may pass
    the Host header on without it.

    Args:
        headers: the request's headers.
        host: the host that was asked for, with or without port.
    """
    site = headers.get("Sec-Fetch-Site")
    if site is not None and site.strip().lower() not in {"same-origin", "none"}:
        return True
    origin = headers.get("Origin")
    if origin is None:
        return False
    try:
        theirs = urlsplit(origin).hostname
        ours = urlsplit(f"//{host}").hostname
    except ValueError:
        return True
    return theirs is None or theirs != ours
