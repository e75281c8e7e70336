"""On the monitoring machine, as lab-alerts.service: Alertmanager's web hook, for the journal.

One line an alert that begins or ends, so that a class sees it: ``lab.logs lb-01 --service
lab-alerts``. The form of the request is Alertmanager's documentation, "webhook_config".
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

ADDRESS, PORT = "127.0.0.1", 9099
LARGEST = 1 << 20
"""Bytes of a request."""


def clean(value: object, most: int = 300) -> str:
    """Text for one line of a journal."""
    text = " ".join(str(value).split())
    return "".join(c for c in text if c.isprintable())[:most]


def line(alert: Mapping[str, Any]) -> str:
    """What the journal says of one alert. A pure function.

    Args:
        alert: one of ``alerts`` of Alertmanager's request.
    """
    labels, notes = alert.get("labels", {}), alert.get("annotations", {})
    status = alert.get("status", "")
    words = ["RESOLVED" if status == "resolved" else "FIRING", clean(labels.get("alertname", "?"))]
    if labels.get("machine"):
        words.append(clean(labels["machine"]))
    text = " ".join(words) + f": {clean(notes.get('summary', ''))}"
    if status == "resolved":
        return text
    if notes.get("check"):
        text += f" (check {clean(notes['check'])})"
    return text + (f"; next: {clean(notes['next'])}" if notes.get("next") else "")


def priority(alert: Mapping[str, Any]) -> int:
    """The syslog priority of one alert's line, which systemd reads before it (sd-daemon(3))."""
    if alert.get("status") == "resolved":
        return 5
    return 2 if alert.get("labels", {}).get("severity") == "critical" else 4


class Board:
    """Remembers what was said of each alert, since Alertmanager repeats itself."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def news(self, request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The alerts of a request that begin or end with it."""
        found = []
        for alert in request.get("alerts", []):
            key = json.dumps(alert.get("labels", {}), sort_keys=True)
            state = f"{alert.get('status')} {alert.get('startsAt')}"
            if self._said.get(key) == state:
                continue
            if alert.get("status") == "resolved":
                self._said.pop(key, None)
            else:
                self._said[key] = state
            found.append(alert)
        return found


def handler(board: Board) -> type[BaseHTTPRequestHandler]:
    """The class that answers requests, with what was said before."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            """Say that the receiver is there."""
            self._answer(200 if self.path == "/ready" else 404)

        def do_POST(self) -> None:
            """Take alerts."""
            try:
                size = int(self.headers.get("Content-Length") or 0)
                if not 0 < size <= LARGEST:
                    raise ValueError(f"a request of {size} bytes")
                alerts = board.news(json.loads(self.rfile.read(size)))
                lines = [f"<{priority(alert)}>{line(alert)}" for alert in alerts]
            except (ValueError, AttributeError, TypeError) as error:
                print(f"<4>a request that is no alert: {clean(error)}", flush=True)
                self._answer(400)
                return
            for text in lines:
                print(text, flush=True)
            self._answer(200)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the journal is for alerts."""

    return Handler


def main() -> None:
    """Serve until stopped."""
    server = HTTPServer((ADDRESS, PORT), handler(Board()))
    print(f"<5>alerts are written here; Alertmanager sends them to port {PORT}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
