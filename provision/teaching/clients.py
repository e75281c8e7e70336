"""Clients that send requests to the site without pause, and what they noticed of a fault."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from provision.core.lab import Lab
from provision.engine.context import Context
from provision.services.app.interface import Application, application
from provision.services.dns import lookup
from provision.services.tls.https import request

INTERVAL = 0.1
"""Seconds between the requests of one client."""

TIMEOUT = 4.0
"""Seconds for one request."""


@dataclass(frozen=True)
class ClientRequest:
    """One request: begin and end in monotonic time, and whether the response was good."""

    begin: float
    end: float
    ok: bool


@dataclass(frozen=True)
class Impact:
    """The impact of a fault on one kind of request.

    ``gap`` is the longest time without a good response, in seconds; ``unavailable``: requests still
    failed at the end of the fault.
    """

    requests: int
    failed: int
    gap: float
    unavailable: bool

    def __str__(self) -> str:
        if not self.requests:
            return "not measured"
        if self.unavailable:
            return "fail"
        return f"interrupted for {self.gap:.1f} s" if self.failed else "unaffected"


def impact(requests: Sequence[ClientRequest], down: float, up: float) -> Impact:
    """The impact on the requests that were sent between two moments."""
    sent = [r for r in requests if down <= r.begin < up]
    gap, since = 0.0, down
    for item in sent:
        gap = max(gap, min(item.end, up) - since)
        since = item.end if item.ok else since
    unavailable = bool(sent) and not sent[-1].ok
    if unavailable:
        gap = max(gap, up - since)
    return Impact(len(sent), sum(not r.ok for r in sent), gap, unavailable)


@dataclass
class Client:
    """Repeats one kind of request and records the results."""

    send: Callable[[], bool]
    requests: list[ClientRequest] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        """Send requests until stopped."""
        while not stop.is_set():
            begin = time.monotonic()
            ok = self.send()
            self.requests.append(ClientRequest(begin, time.monotonic(), ok))
            stop.wait(max(0.0, INTERVAL - (time.monotonic() - begin)))

    def latest(self, since: float) -> ClientRequest | None:
        """The newest finished request that was sent after a moment."""
        return next((r for r in reversed(list(self.requests)) if r.begin >= since), None)


@dataclass(frozen=True)
class Clients:
    """One client per kind of request: reading a page, writing a row, resolving the site's name."""

    reader: Client
    writer: Client
    resolver: Client


@contextlib.contextmanager
def running_clients(context: Context) -> Iterator[Clients]:
    """Clients in threads of their own, stopped at the end.

    How an application of the user's own writes is not known: its writer is its reader.
    """
    stop = threading.Event()
    lab, app = context.lab, application(context)
    reader = Client(lambda: _read(lab, app))
    writer = Client(lambda: _write(lab)) if app.is_guest_book else reader
    clients = Clients(reader, writer, Client(lambda: _resolve(lab)))
    distinct = {id(client): client for client in (reader, writer, clients.resolver)}
    threads = [
        threading.Thread(target=client.run, args=(stop,), daemon=True)
        for client in distinct.values()
    ]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        stop.set()
        for thread in threads:
            thread.join(TIMEOUT + 1)


def _read(lab: Lab, app: Application) -> bool:
    response = request(lab, app.page, timeout=TIMEOUT)
    read = bool(response.header("x-read-from")) or not app.is_guest_book
    return response.status == 200 and read


def _write(lab: Lab) -> bool:
    path = f"/api/markers/{secrets.token_hex(8)}"
    return request(lab, path, "PUT", timeout=TIMEOUT).status in (200, 201)


def _resolve(lab: Lab) -> bool:
    """As a stub resolver does: try the next name server when one does not respond."""
    servers = [str(m.address) for m in lab.with_role("dns")]
    replies = (lookup.query(server, lab.site, timeout=0.5) for server in servers)
    return not servers or any(reply.values("A") == (str(lab.address),) for reply in replies)
