"""Load on a site: bounds, what counts as failed, percentiles; against a server in this process."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from provision.core.lab import Lab
from provision.drills import lint
from provision.teaching import keepalive
from provision.teaching.load import NO_RESPONSE, Answered, Load, percentile, summarize


class Handler(http.server.BaseHTTPRequestHandler):
    """Every tenth request fails; requests are counted, with the most at once."""

    protocol_version = "HTTP/1.1"
    count = 0
    puts = 0
    connections = 0
    lock = threading.Lock()

    def setup(self) -> None:
        super().setup()
        with Handler.lock:
            Handler.connections += 1

    def do_GET(self) -> None:
        with Handler.lock:
            Handler.count += 1
            status = 500 if Handler.count % 10 == 0 else 200
        self.send_response(status)
        self.send_header("X-Served-By", "web-01")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def do_PUT(self) -> None:
        with Handler.lock:
            Handler.puts += 1
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A lab whose front is a server of this process."""
    from urllib3.connection import HTTPConnection

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    Handler.count = Handler.puts = Handler.connections = 0
    port = server.server_address[1]
    monkeypatch.setattr(
        keepalive, "connect", lambda *_: HTTPConnection("127.0.0.1", port, timeout=2)
    )
    yield lint.sample_lab("distributed")
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_burst_sends_exactly_so_many_requests_over_kept_connections(lab: Lab) -> None:
    summary = Load(lab).burst(40, 4)
    assert (summary.requests, summary.failed) == (40, 4)
    assert summary.statuses == {"200": 36, "500": 4}
    assert summary.servers == {"web-01": 36}
    assert Handler.connections <= 4


def test_a_rate_is_kept_and_bounded(lab: Lab) -> None:
    summary = Load(lab).at_rate(40, 1.0)
    assert 25 <= summary.requests <= 42
    assert summary.requests == Handler.count


def test_some_requests_write(lab: Lab) -> None:
    summary = Load(lab, writes=100).burst(10, 2)
    assert (summary.writes, Handler.puts, summary.failed) == (10, 10, 0)


def test_no_response_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib3.connection import HTTPConnection

    closed = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    port = closed.server_address[1]
    closed.server_close()
    monkeypatch.setattr(
        keepalive, "connect", lambda *_: HTTPConnection("127.0.0.1", port, timeout=1)
    )
    summary = Load(lint.sample_lab("distributed")).burst(3, 1)
    assert summary.statuses == {NO_RESPONSE: 3}
    assert summary.failed == 3
    assert "refused" in summary.errors[0]


def test_percentiles() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 95), percentile(values, 99)) == (50, 95, 99)
    assert percentile([3.0], 99) == 3.0
    assert percentile([], 50) == 0.0


def test_a_summary() -> None:
    answers = [
        Answered(0.0, 0.1, "200", "web-01", False),
        Answered(0.1, 0.3, "201", "web-02", True),
        Answered(0.2, 0.2, "503", "web-02", False),
        Answered(0.3, 5.0, NO_RESPONSE, "", False, "timed out"),
    ]
    summary = summarize(answers, 2.0)
    assert (summary.requests, summary.writes, summary.failed, summary.rate) == (4, 1, 2, 2.0)
    assert summary.servers == {"web-01": 1, "web-02": 1}
    assert (summary.median, summary.slowest, summary.errors) == (0.2, 5.0, ("timed out",))
