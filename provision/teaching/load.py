"""A bounded load on the site: a constant rate for some seconds, or a number of requests at once."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from provision.core.lab import Lab
from provision.core.waiting import timeout_factor
from provision.services.tls.https import SiteResponse
from provision.teaching.keepalive import KeepAliveClient

MAX_RATE, MAX_SECONDS, MAX_CLIENTS = 500, 600, 200
"""Requests per second, seconds and concurrent clients: a lab shares its host with others."""

TIMEOUT = 5.0 * timeout_factor()
"""Seconds for one request."""

RATE_PER_CLIENT = 5
"""Requests per second of one client at most, so that slow responses do not lower the rate soon."""

NO_RESPONSE = "no response"


@dataclass(frozen=True)
class Answered:
    """One request of a load. Times are in seconds.

    Args:
        status: the HTTP status as text, or `NO_RESPONSE`.
        server: the web server that answered; empty when unknown.
        at: when it was sent, since the start.
    """

    at: float
    took: float
    status: str
    server: str
    write: bool
    error: str = ""

    @property
    def failed(self) -> bool:
        """Whether the response was not a success."""
        return not self.status.startswith("2")


@dataclass(frozen=True)
class LoadSummary:
    """What a load has measured. Latencies are in seconds.

    Args:
        statuses: requests by HTTP status, or `NO_RESPONSE`.
        servers: successful requests by the web server that answered.
        errors: the different reasons of requests without a response, at most five.
    """

    requests: int
    writes: int
    failed: int
    seconds: float
    median: float
    p95: float
    p99: float
    slowest: float
    statuses: Mapping[str, int]
    servers: Mapping[str, int]
    errors: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds if self.seconds else 0.0


def summarize(answers: Sequence[Answered], seconds: float) -> LoadSummary:
    """The summary of the requests that have ended.

    Args:
        seconds: since the start.
    """
    took = sorted(answer.took for answer in answers)
    statuses = Counter(answer.status for answer in answers)
    servers = Counter(a.server for a in answers if a.server and not a.failed)
    errors = dict.fromkeys(answer.error for answer in answers if answer.error)
    return LoadSummary(
        requests=len(answers),
        writes=sum(answer.write for answer in answers),
        failed=sum(answer.failed for answer in answers),
        seconds=seconds,
        median=percentile(took, 50),
        p95=percentile(took, 95),
        p99=percentile(took, 99),
        slowest=took[-1] if took else 0.0,
        statuses=dict(sorted(statuses.items())),
        servers=dict(sorted(servers.items())),
        errors=tuple(errors)[:5],
    )


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile of ascending values; 0 without values."""
    if not ordered:
        return 0.0
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[rank - 1]


@dataclass
class Load:
    """Clients in threads of their own. Call `run` once.

    Args:
        lab: its network must be up (`Provider.network_problem`).
        writes: percent of the requests that write a row.
    """

    lab: Lab
    path: str = "/"
    writes: int = 0
    _answers: list[Answered] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _started: float = 0.0
    _next: int = 0

    def at_rate(
        self, rate: float, seconds: float, show: Callable[[LoadSummary], None] = lambda _: None
    ) -> LoadSummary:
        """A constant rate; requests that are late because responses are slow are left out.

        Args:
            rate: requests per second.
            show: receives a summary twice per second.
        """
        clients = max(2, min(MAX_CLIENTS, round(rate / RATE_PER_CLIENT + 0.5)))
        every = clients / rate

        def work(client: KeepAliveClient, number: int) -> None:
            due = number / rate
            while due < seconds and not self._stop.wait(max(0.0, due - self._elapsed())):
                self._send(client)
                due = max(due + every, self._elapsed())

        return self._run(clients, work, show)

    def burst(self, requests: int, concurrent: int) -> LoadSummary:
        """A number of requests from concurrent clients, as fast as they are answered."""

        def work(client: KeepAliveClient, number: int) -> None:
            while not self._stop.is_set():
                with self._lock:
                    self._next += 1
                    if self._next > requests:
                        return
                self._send(client)

        return self._run(min(concurrent, requests, MAX_CLIENTS), work, lambda _: None)

    def _run(
        self,
        clients: int,
        work: Callable[[KeepAliveClient, int], None],
        show: Callable[[LoadSummary], None],
    ) -> LoadSummary:
        import urllib3.connection  # noqa: F401 - threads would see it half imported

        self._started = time.monotonic()

        def client(number: int) -> None:
            connection = KeepAliveClient(self.lab, TIMEOUT)
            try:
                work(connection, number)
            finally:
                connection.close()

        threads = [
            threading.Thread(target=client, args=(number,), daemon=True)
            for number in range(clients)
        ]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                threads[-1].join(0.5) if threads[-1].is_alive() else time.sleep(0.05)
                show(self.summary())
        finally:
            self._stop.set()
        return self.summary()

    def summary(self) -> LoadSummary:
        """The summary so far."""
        with self._lock:
            return summarize(self._answers, self._elapsed())

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _send(self, client: KeepAliveClient) -> None:
        write = self.writes > 0 and secrets.randbelow(100) < self.writes
        at = self._elapsed()
        if write:
            response = client.request("PUT", f"/api/markers/{secrets.token_hex(8)}")
        else:
            response = client.request("GET", self.path)
        answer = _answer(response, at, self._elapsed() - at, write)
        with self._lock:
            self._answers.append(answer)


def _answer(response: SiteResponse, at: float, took: float, write: bool) -> Answered:
    status = str(response.status) if response.status else NO_RESPONSE
    return Answered(at, took, status, response.header("x-served-by"), write, response.error)
