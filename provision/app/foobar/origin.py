"""Detect cross-site request forgery (CSRF)."""

from __future__ import annotations

from urllib.parse import urlsplit

from werkzeug.datastructures import Headers

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def is_cross_site(headers: Headers, host: str) -> bool:
    """Return whether a browser sent this request on behalf of another site.

    Browsers set Sec-Fetch-Site (Fetch Metadata, on secure origins only) and Origin (Fetch
    Standard); other clients set neither and are accepted. Ports are not compared: a proxy may
    remove the port from the Host header.
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
