"""On the monitoring machine, as lab-monitor.service: the page that draws the lab in a browser.

It serves its own few files, Debian's Chart.js, and the answers to a fixed list of questions
(queries.py), which it asks Prometheus itself: a browser cannot send a query of its own. Arguments:
address and port to listen on, the lab's name.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from provision.monitoring.agent.queries import NOW, SERIES, over, step_for

PATH = "/_monitor/"
PROMETHEUS = ("127.0.0.1", 9090)
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "static")
CHART = "/usr/share/javascript/chart.js/chart.min.js"
"""Debian's package libjs-chart.js."""

FILES = {
    "": (f"{HERE}/index.html", "text/html; charset=utf-8"),
    "monitor.css": (f"{HERE}/monitor.css", "text/css; charset=utf-8"),
    "monitor.js": (f"{HERE}/monitor.js", "text/javascript; charset=utf-8"),
    "icon.svg": (f"{HERE}/icon.svg", "image/svg+xml"),
    "chart.js": (CHART, "text/javascript; charset=utf-8"),
}
MINUTES = (5, 15, 60, 360)
FRESH = 2.0
"""Seconds that an answer is used again, so that a class full of browsers asks once."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def prometheus(path: str, **query: str) -> Any:
    """The ``data`` of one answer of Prometheus' HTTP API.

    Raises:
        OSError: when it does not answer, or answers that it cannot.
    """
    connection = http.client.HTTPConnection(*PROMETHEUS, timeout=5)
    try:
        connection.request("GET", f"{path}?{urlencode(query)}")
        answer = json.loads(connection.getresponse().read())
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"Prometheus said {error!r}") from None
    finally:
        connection.close()
    if answer.get("status") != "success":
        raise OSError(f"Prometheus: {answer.get('error')}")
    return answer["data"]


def collect(lab: str, minutes: int) -> dict[str, Any]:
    """Everything that the page draws.

    Args:
        lab: its name.
        minutes: how far back the lines go.
    """
    step = step_for(minutes * 60)
    series = {}
    for name, promql in SERIES.items():
        data = prometheus("/api/v1/query", query=over(promql, minutes * 60, step))
        series[name] = [
            {"labels": each["metric"], "points": [[t, float(v)] for t, v in each["values"]]}
            for each in data["result"]
        ]
    now = {}
    for name, promql in NOW.items():
        data = prometheus("/api/v1/query", query=promql)
        now[name] = [
            {"labels": each["metric"], "value": float(each["value"][1])} for each in data["result"]
        ]
    alerts = prometheus("/api/v1/alerts")["alerts"]
    return {
        "lab": lab,
        "time": time.time(),
        "minutes": minutes,
        "step": step,
        "series": series,
        "now": now,
        "alerts": [a for a in alerts if a["state"] == "firing"],
    }


class Answers:
    """The last answer for each span of time, asked anew when it is older than a moment."""

    def __init__(self, lab: str) -> None:
        self._lab = lab
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[float, bytes]] = {}

    def get(self, minutes: int) -> bytes:
        """The page's data as JSON text; NaN and infinity, which JSON lacks, become null."""
        with self._lock:
            made, text = self._kept.get(minutes, (0.0, b""))
            if not text or time.monotonic() - made > FRESH:
                text = json.dumps(finite(collect(self._lab, minutes))).encode()
                self._kept[minutes] = (time.monotonic(), text)
            return text


def finite(value: Any) -> Any:
    """The same value with None for every number that JSON cannot say."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def handler(answers: Answers) -> type[BaseHTTPRequestHandler]:
    """The class that answers requests."""

    class Handler(BaseHTTPRequestHandler):
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
                self._data(parse_qs(parts.query).get("minutes", ["15"])[0])
            elif name in FILES:
                path, kind = FILES[name]
                with open(path, "rb") as file:
                    self._send(200, file.read(), kind, {"Cache-Control": "max-age=60"})
            else:
                self._send(404, b"there is no such page\n", "text/plain; charset=utf-8")

        do_HEAD = do_GET  # noqa: N815

        def _data(self, minutes: str) -> None:
            if minutes not in map(str, MINUTES):
                text = f"minutes is one of {', '.join(map(str, MINUTES))}\n"
                self._send(400, text.encode(), "text/plain; charset=utf-8")
                return
            try:
                body = answers.get(int(minutes))
            except OSError as error:
                text = json.dumps({"error": f"Prometheus does not answer: {error}"})
                self._send(503, text.encode(), "application/json")
                return
            self._send(200, body, "application/json", {"Cache-Control": "no-store"})

        def _send(
            self, status: int, body: bytes, kind: str, more: dict[str, str] | None = None
        ) -> None:
            self.send_response(status)
            for name, value in {**HEADERS, **(more or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the balancer logs requests."""

    return Handler


def main(arguments: list[str]) -> None:
    """Serve until stopped."""
    address, port, lab = arguments
    server = ThreadingHTTPServer((address, int(port)), handler(Answers(lab)))
    server.daemon_threads = True
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
