"""Alertmanager's webhook receiver on the monitoring machine (lab-alerts.service).

It writes one journal line when an alert starts firing and one when it is resolved. Request format:
Alertmanager documentation, "webhook_config".
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from provision.monitoring.agent.ports import ALERTS_PORT as PORT

ADDRESS = "127.0.0.1"
MAX_BYTES = 1 << 20


def clean(value: object, length: int = 300) -> str:
    """Printable text without line breaks, at most ``length`` characters."""
    text = " ".join(str(value).split())
    return "".join(c for c in text if c.isprintable())[:length]


def line(alert: Mapping[str, Any]) -> str:
    """The journal line of one entry of ``alerts`` in Alertmanager's request."""
    labels, annotations = alert.get("labels", {}), alert.get("annotations", {})
    resolved = alert.get("status", "") == "resolved"
    words = ["RESOLVED" if resolved else "FIRING", clean(labels.get("alertname", "?"))]
    if labels.get("machine"):
        words.append(clean(labels["machine"]))
    text = " ".join(words) + f": {clean(annotations.get('summary', ''))}"
    if resolved:
        return text
    if annotations.get("check"):
        text += f" (check {clean(annotations['check'])})"
    return text + (f"; next: {clean(annotations['next'])}" if annotations.get("next") else "")


def priority(alert: Mapping[str, Any]) -> int:
    """The syslog priority that systemd reads from the start of a line (sd-daemon(3))."""
    if alert.get("status") == "resolved":
        return 5
    return 2 if alert.get("labels", {}).get("severity") == "critical" else 4


class AlertLog:
    """Filters out repeated notifications, which Alertmanager sends for alerts that keep firing."""

    def __init__(self) -> None:
        self._logged: dict[str, str] = {}

    def changes(self, request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The alerts of a request that start firing or are resolved with it."""
        changed = []
        for alert in request.get("alerts", []):
            key = json.dumps(alert.get("labels", {}), sort_keys=True)
            state = f"{alert.get('status')} {alert.get('startsAt')}"
            if self._logged.get(key) == state:
                continue
            if alert.get("status") == "resolved":
                self._logged.pop(key, None)
            else:
                self._logged[key] = state
            changed.append(alert)
        return changed


def handler(log: AlertLog) -> type[BaseHTTPRequestHandler]:
    """The request handler class for this log."""

    class AlertHandler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            """Respond to the readiness probe."""
            self._respond(200 if self.path == "/ready" else 404)

        def do_POST(self) -> None:
            """Log the alerts of one notification."""
            try:
                size = int(self.headers.get("Content-Length") or 0)
                if not 0 < size <= MAX_BYTES:
                    raise ValueError(f"a request of {size} bytes")
                alerts = log.changes(json.loads(self.rfile.read(size)))
                lines = [f"<{priority(alert)}>{line(alert)}" for alert in alerts]
            except (ValueError, AttributeError, TypeError) as error:
                print(f"<4>invalid notification: {clean(error)}", flush=True)
                self._respond(400)
                return
            for text in lines:
                print(text, flush=True)
            self._respond(200)

        def _respond(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing: the journal is for alerts."""

    return AlertHandler


def main() -> None:
    """Serve until stopped."""
    server = HTTPServer((ADDRESS, PORT), handler(AlertLog()))
    print(f"<5>listening on port {PORT} for notifications of Alertmanager", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
