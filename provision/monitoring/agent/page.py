"""The monitoring page: an HTTP server on the monitoring machine (lab-monitor.service).

It serves static files, Debian's Chart.js, and the results of a fixed list of queries: a browser
cannot send queries of its own. Arguments: address and port to listen on, the lab's name, its site
and topology, the alert limits for replication lag (seconds) and for the share of failed requests.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from provision.monitoring.agent.prometheus import ADDRESS, PORT, Series, read_view

PATH = "/_monitor/"
PROMETHEUS = (ADDRESS, PORT)
STATIC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "static")
CHART = "/usr/share/javascript/chart.js/chart.min.js"
"""Debian's package libjs-chart.js."""

FILES = {
    "": (f"{STATIC}/index.html", "text/html; charset=utf-8"),
    "monitor.css": (f"{STATIC}/monitor.css", "text/css; charset=utf-8"),
    "monitor.js": (f"{STATIC}/monitor.js", "text/javascript; charset=utf-8"),
    "icon.svg": (f"{STATIC}/icon.svg", "image/svg+xml"),
    "chart.js": (CHART, "text/javascript; charset=utf-8"),
}
MINUTES = (5, 15, 60, 360)
POINTS = 120
CACHE_SECONDS = 2.0
"""A result is reused for so long, so that many browsers cause one set of queries."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def fetch(paths: Sequence[str]) -> list[str]:
    """Send GET requests to Prometheus over one connection.

    Raises:
        OSError: when Prometheus does not respond.
    """
    connection = http.client.HTTPConnection(*PROMETHEUS, timeout=5)
    bodies = []
    try:
        for path in paths:
            connection.request("GET", path)
            bodies.append(connection.getresponse().read().decode())
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"Prometheus sent an invalid response: {error!r}") from None
    finally:
        connection.close()
    return bodies


def collect(minutes: int) -> dict[str, Any]:
    """The data of the page.

    Raises:
        OSError: when Prometheus does not respond.
        ValueError: when a query fails.
    """
    view = read_view(fetch, minutes * 60, POINTS)
    return {
        "time": view.time,
        "minutes": minutes,
        "step": view.step,
        "series": {
            name: [{"labels": s.labels, "points": s.points} for s in group]
            for name, group in view.series.items()
        },
        "current": {name: _values(group) for name, group in view.current.items()},
        "alerts": [asdict(alert) for alert in view.firing],
    }


def _values(group: Sequence[Series]) -> list[dict[str, Any]]:
    return [{"labels": series.labels, "value": series.last} for series in group]


class PageData:
    """The page's data as JSON, cached for `CACHE_SECONDS`; ``constants`` are part of it."""

    def __init__(self, constants: Mapping[str, Any]) -> None:
        self._constants = dict(constants)
        self._lock = threading.Lock()
        self._cache: dict[int, tuple[float, bytes]] = {}

    def get(self, minutes: int) -> bytes:
        """JSON; NaN and infinity, which JSON lacks, become null."""
        with self._lock:
            created, body = self._cache.get(minutes, (0.0, b""))
            if not body or time.monotonic() - created > CACHE_SECONDS:
                body = json.dumps(finite(self._constants | collect(minutes))).encode()
                self._cache[minutes] = (time.monotonic(), body)
            return body


def finite(value: Any) -> Any:
    """The same value with None for every number that JSON cannot represent."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def handler(data: PageData) -> type[BaseHTTPRequestHandler]:
    """The request handler class for this data."""

    class PageHandler(BaseHTTPRequestHandler):
        timeout = 15
        server_version, sys_version = "lab-monitor", ""

        def do_GET(self) -> None:
            """Serve a file, or the data."""
            parts = urlsplit(self.path)
            if parts.path == PATH.rstrip("/"):
                self._send(301, b"", "text/plain", {"Location": PATH})
                return
            name = parts.path.removeprefix(PATH) if parts.path.startswith(PATH) else None
            if name == "data":
                self._send_data(parse_qs(parts.query).get("minutes", ["15"])[0])
            elif name in FILES:
                path, content_type = FILES[name]
                with open(path, "rb") as file:
                    self._send(200, file.read(), content_type, {"Cache-Control": "max-age=60"})
            else:
                self._send(404, b"page not found\n", "text/plain; charset=utf-8")

        do_HEAD = do_GET  # noqa: N815

        def _send_data(self, minutes: str) -> None:
            if minutes not in map(str, MINUTES):
                text = f"invalid minutes: choose from {', '.join(map(str, MINUTES))}\n"
                self._send(400, text.encode(), "text/plain; charset=utf-8")
                return
            try:
                body = data.get(int(minutes))
            except (OSError, ValueError) as error:
                text = json.dumps({"error": f"Prometheus does not respond: {error}"})
                self._send(503, text.encode(), "application/json")
                return
            self._send(200, body, "application/json", {"Cache-Control": "no-store"})

        def _send(
            self, status: int, body: bytes, content_type: str, more: dict[str, str] | None = None
        ) -> None:
            self.send_response(status)
            for name, value in {**HEADERS, **(more or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing: the balancer logs requests."""

    return PageHandler


def main(arguments: list[str]) -> None:
    """Serve until stopped."""
    address, port, lab, site, topology, lag, error_rate = arguments
    limits = {"lag": float(lag), "errors": float(error_rate)}
    data = PageData({"lab": lab, "site": site, "topology": topology, "limits": limits})
    server = ThreadingHTTPServer((address, int(port)), handler(data))
    server.daemon_threads = True
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
