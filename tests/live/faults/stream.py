"""Users of a lab: a bounded stream of reads and writes through the balancer, each remembered.

A write has an id of its own. The client is a careful one: what was not acknowledged is sent again
under the same id. Afterwards `count` asks the databases themselves how often each id is there.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from uuid import uuid4

from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError

from provision.core.lab import Lab
from provision.engine.fleet import Fleet
from provision.services.tls.https import connect

READERS, READS_PER_SECOND = 4, 8.0
WRITERS, WRITES_PER_SECOND = 2, 6.0
"""Threads, and requests a second of each: 44 in all."""

READ_TIMEOUT = 10.0
WRITE_TIMEOUT = 3.0
"""Seconds until a reader gives up, and until a writer sends again."""

GRACE = 20.0
"""Seconds after the end in which a write that was not acknowledged is still sent again."""

GONE = (ConnectionError, http.client.RemoteDisconnected, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""How a client learns that the other side has closed a kept connection."""

PATHS = ("/", "/api/notes?limit=3", "/static/foobar.css")


@dataclass(frozen=True)
class Stream:
    """What the users of one stream have seen.

    Args:
        name: the author of its notes.
        reads: how many were sent.
        failures: seconds since the start and what came instead of 200, of reads that failed.
        writes: how many requests were sent for writes.
        refusals: those that were not acknowledged; all were sent again.
        acknowledged: ids of writes that were answered with 200 or 201.
        unanswered: ids of writes that never were.
        worst_read: longest time of one read in seconds.
        worst_write: longest time from the first sending of a write to its acknowledgement.
        pause: longest time without an acknowledged write.
    """

    name: str
    reads: int
    failures: tuple[tuple[float, str], ...]
    writes: int
    refusals: tuple[tuple[float, str], ...]
    acknowledged: frozenset[str]
    unanswered: frozenset[str]
    worst_read: float
    worst_write: float
    pause: float

    @property
    def sent(self) -> int:
        """All requests."""
        return self.reads + self.writes


@dataclass
class _Client:
    """One connection that is kept while both sides keep it, as browsers do.

    It speaks TLS, and trusts the lab's own authority alone, where the lab does.
    """

    lab: Lab
    timeout: float
    _kept: HTTPConnection | None = None

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        """Status and text of the answer; 0 and why when there was none."""
        headers = {"Host": self.lab.site, "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        reused = self._kept is not None
        kept, self._kept = self._kept, None
        try:
            kept = kept or connect(self.lab, str(self.lab.address), self.timeout)
            kept.request(method, path, body, headers, preload_content=False)
            answer = kept.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException, HTTPError) as error:
            if kept is not None:
                kept.close()
            cause = error.__cause__ or error  # urllib3 wraps some errors in its own
            if reused and isinstance(cause, GONE) and method == "GET":
                # The kept connection had been closed meanwhile: RFC 9110, 9.2.2, lets a client
                # repeat what is safe to repeat, and every client does.
                return self.ask(method, path, body)
            return 0, repr(cause)
        if answer.headers.get("Connection", "").lower() == "close":
            kept.close()
        else:
            self._kept = kept
        return answer.status, text

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()


@dataclass
class Users:
    """Users that begin with ``start`` and are at their end with ``finish``.

    Args:
        lab: whose front they ask; its network must be known to be up.
        seconds: how long they go on.
    """

    lab: Lab
    seconds: float
    name: str = field(default_factory=lambda: f"t{uuid4().hex[:10]}")
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)
    _reads: list[tuple[float, float, str]] = field(default_factory=list)
    _tries: list[tuple[float, str]] = field(default_factory=list)
    _acknowledged: dict[str, tuple[float, float]] = field(default_factory=dict)
    _unanswered: set[str] = field(default_factory=set)
    _start: float = 0.0

    def start(self) -> None:
        """Let them begin."""
        self._start = time.monotonic()
        for number in range(READERS):
            self._begin(self._read, number, READERS, READS_PER_SECOND)
        for number in range(WRITERS):
            self._begin(self._write, number, WRITERS, WRITES_PER_SECOND)

    def _begin(self, work: object, number: int, of: int, rate: float) -> None:
        arguments = (work, number / of / rate, 1 / rate)
        thread = threading.Thread(target=self._pace, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def now(self) -> float:
        """Seconds since they began."""
        return time.monotonic() - self._start

    def wait(self, moment: float) -> None:
        """Return at that second of the stream, or when the users were told to end."""
        self._ended.wait(max(0.0, moment - self.now()))

    def end(self) -> None:
        """Let them end before their time, once what they wait for is over."""
        self._ended.set()

    def finish(self) -> Stream:
        """Wait for their end; what they have seen."""
        for thread in self._threads:
            thread.join(self.seconds + GRACE + READ_TIMEOUT)
            assert not thread.is_alive(), "a user of the stream does not come to an end"
        length = max([self.seconds, *(at for at, _ in self._acknowledged.values())])
        if self._ended.is_set():
            length = min(length, self._until)
        moments = sorted([0.0, *(at for at, _ in self._acknowledged.values()), length])
        gaps = (later - sooner for sooner, later in pairwise(moments))
        return Stream(
            self.name,
            len(self._reads),
            tuple((round(at, 2), what) for at, _, what in self._reads if what),
            len(self._tries),
            tuple((round(at, 2), what) for at, what in self._tries if what),
            frozenset(self._acknowledged),
            frozenset(self._unanswered),
            max((took for _, took, _ in self._reads), default=0.0),
            max((took for _, took in self._acknowledged.values()), default=0.0),
            max(gaps),
        )

    _until: float = 0.0

    def _pace(self, work: object, first: float, every: float) -> None:
        """Call it at a steady rate; a call that took long is not made up for."""
        timeout = READ_TIMEOUT if work == self._read else WRITE_TIMEOUT
        client = _Client(self.lab, timeout)
        due, count = first, 0
        while due < self.seconds and not self._ended.is_set():
            self.wait(due)
            work(client, count)  # type: ignore[operator]
            count += 1
            due = max(due + every, self.now())
        self._until = max(self._until, self.now())
        client.close()

    def _read(self, client: _Client, count: int) -> None:
        at = self.now()
        status, text = client.ask("GET", PATHS[count % len(PATHS)])
        what = "" if status == 200 else f"{status} {text[:160]}"
        with self._lock:
            self._reads.append((at, self.now() - at, what))

    def _write(self, client: _Client, count: int) -> None:
        note, at = uuid4().hex, self.now()
        body = json.dumps({"id": note, "author": self.name, "text": note})
        while True:
            sent = self.now()
            status, text = client.ask("POST", "/api/notes", body)
            good = status in (200, 201)
            with self._lock:
                self._tries.append((sent, "" if good else f"{status} {text[:160]}"))
                if good:
                    self._acknowledged[note] = (self.now(), self.now() - at)
                    return
                if self.now() > self.seconds + GRACE:
                    self._unanswered.add(note)
                    return
            time.sleep(0.1)


@dataclass(frozen=True)
class Found:
    """What one database has of a stream: acknowledged writes that are missing, and doubled ones."""

    missing: int
    doubled: int


def count(fleet: Fleet, stream: Stream, patience: float = 30.0) -> Mapping[str, Found]:
    """Ask every database how often each acknowledged write is there.

    Args:
        fleet: the lab's machines.
        stream: whose writes.
        patience: seconds that a replica has to catch up.
    """
    sql = f"SELECT text, COUNT(*) FROM foobar.notes WHERE author = '{stream.name}' GROUP BY text"
    found = {}
    for machine in fleet.lab.with_role("mysql"):
        deadline = time.monotonic() + patience
        while True:
            result = fleet.host(machine.name).run("mysql", "-N", "-B", "-e", sql)
            rows = dict(line.split("\t") for line in result.stdout.splitlines())
            missing = len(stream.acknowledged - set(rows))
            if (result.ok and not missing) or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        assert result.ok, f"{machine.name}: {result.stderr}"
        found[machine.name] = Found(missing, sum(number != "1" for number in rows.values()))
    return found
