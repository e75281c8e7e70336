"""Open-loop load on a site: requests arrive at a rate, whether earlier ones are served or not.

Clients of a closed loop wait for each response, so that an overloaded site slows them down and
hides the overload. One process with one event loop, since it shares two cores with the lab.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from uuid import uuid4

READ, WRITE, STATIC = "read", "write", "static"
PATTERN = (READ, READ, READ, WRITE, READ, READ, READ, STATIC, READ, READ)
"""Of ten requests: eight reads, a write and a static file."""
READ_PATH, STATIC_PATH = "/api/notes?limit=5", "/static/foobar.css"

PATIENCE = 15.0
"""Seconds until a client gives up."""
MOST_OPEN = 900
"""Connections; the balancer refuses an address more than 1000. Further arrivals are not sent."""
NOT_SENT = "not sent"
GOOD = frozenset({200, 201})
QUICK = 0.5
"""Seconds; a site that needs more is not back to normal."""


@dataclass(frozen=True)
class Outcome:
    """One request.

    Args:
        kind: ``read``, ``write`` or ``static``.
        ended: seconds since the start of the load.
        took: seconds.
        error: empty for a good response; else a status or why there was none.
    """

    kind: str
    ended: float
    took: float
    error: str


@dataclass
class Load:
    """Clients of one site. `author` names the notes; `acknowledged` are ids that must exist."""

    host: str
    port: int
    site: str
    tls: ssl.SSLContext | None
    author: str
    acknowledged: list[str] = field(default_factory=list)
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    _open: int = 0
    _sent: int = 0

    async def closed(self, clients: int, seconds: float) -> list[Outcome]:
        """Clients that each wait for the response before the next request: measures capacity."""
        started = time.monotonic()
        outcomes: list[Outcome] = []

        async def client() -> None:
            while time.monotonic() - started < seconds:
                outcomes.append(await self._request(started))

        await asyncio.gather(*(client() for _ in range(clients)))
        return outcomes

    async def opened(
        self, rate: float, seconds: float, middle: Callable[[], Awaitable[None]] | None = None
    ) -> list[Outcome]:
        """Requests that arrive `rate` times a second; `middle` runs at half time."""
        started = time.monotonic()
        outcomes: list[Outcome] = []
        tasks: set[asyncio.Task[None]] = set()

        async def one() -> None:
            outcomes.append(await self._request(started))

        def start(work: Awaitable[None]) -> None:
            task = asyncio.ensure_future(work)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        arrivals, pending_middle = 0, middle
        while (elapsed := time.monotonic() - started) < seconds:
            if pending_middle is not None and elapsed > seconds / 2:
                start(pending_middle())
                pending_middle = None
            while arrivals < min(elapsed, seconds) * rate:
                arrivals += 1
                start(one())
            await asyncio.sleep(0.005)
        while tasks:
            await asyncio.wait(tasks)
        return outcomes

    async def close(self) -> None:
        """Close all connections."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()

    async def _request(self, started: float) -> Outcome:
        kind = PATTERN[self._sent % len(PATTERN)]
        self._sent += 1
        begun = time.monotonic()
        note = str(uuid4())
        try:
            async with asyncio.timeout(PATIENCE):
                error = await self._exchange(kind, note)
        except TimeoutError:
            error = "no response"
        except (OSError, asyncio.IncompleteReadError, ValueError) as failure:
            error = type(failure).__name__
        if kind == WRITE and not error:
            self.acknowledged.append(note)
        now = time.monotonic()
        return Outcome(kind, now - started, now - begun, error)

    async def _exchange(self, kind: str, note: str) -> str:
        if self._open >= MOST_OPEN and not self._idle:
            return NOT_SENT
        kept = bool(self._idle)
        reader, writer = self._idle.pop() if kept else await self._connect()
        usable = False
        try:
            try:
                writer.write(self._text(kind, note))
                head = await reader.readuntil(b"\r\n\r\n")
            except (ConnectionError, asyncio.IncompleteReadError):
                if not kept:
                    raise
                # The site closed an idle connection; a browser opens another one, too.
                writer.close()
                self._open -= 1
                reader, writer = await self._connect()
                writer.write(self._text(kind, note))
                head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").lower().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
            await _body(reader, headers)
            usable = headers.get("connection") != "close"
        finally:
            if usable:
                self._idle.append((reader, writer))
            else:
                writer.close()
                self._open -= 1
        status = int(lines[0].split(" ")[1])
        if status in GOOD:
            return ""
        return f"{status}" + (" with Retry-After" if "retry-after" in headers else "")

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._open += 1
        try:
            name = self.site if self.tls else None
            return await asyncio.open_connection(
                self.host, self.port, ssl=self.tls, server_hostname=name
            )
        except BaseException:
            self._open -= 1
            raise

    def _text(self, kind: str, note: str) -> bytes:
        head = f"Host: {self.site}\r\n"
        if kind != WRITE:
            path = READ_PATH if kind == READ else STATIC_PATH
            return f"GET {path} HTTP/1.1\r\n{head}\r\n".encode()
        body = json.dumps({"id": note, "author": self.author, "text": "overload"})
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"POST /api/notes HTTP/1.1\r\n{head}\r\n{body}".encode()


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> None:
    if headers.get("transfer-encoding") != "chunked":
        await reader.readexactly(int(headers.get("content-length", "0")))
        return
    while size := int((await reader.readline()).split(b";")[0], 16):
        await reader.readexactly(size + 2)
    await reader.readline()


def sent(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Without the arrivals for which the client had no connection left."""
    return [o for o in outcomes if o.error != NOT_SENT]


def goodput(outcomes: Iterable[Outcome], seconds: float) -> float:
    """Good responses of the application per second; static files do not count."""
    return sum(1 for o in outcomes if not o.error and o.kind != STATIC) / seconds


def errors(outcomes: Iterable[Outcome]) -> Counter[str]:
    """How often each error occurred, with the kind of request."""
    return Counter(f"{o.kind}: {o.error}" for o in sent(outcomes) if o.error)


def recovery(outcomes: Iterable[Outcome]) -> float:
    """Seconds until the last request that failed or was slow; 0 when all were good and quick."""
    return max((o.ended for o in outcomes if o.error or o.took > QUICK), default=0.0)
