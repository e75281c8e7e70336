"""A workload for a lab: a bounded rate of reads and writes through the balancer, all recorded.

Every write has a unique id. Clients retry a write that was not acknowledged with the same id.
Afterwards `count_writes` queries each database for the number of rows per id.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from uuid import uuid4

from provision.core.lab import Lab
from provision.engine.fleet import Fleet
from provision.services.tls.https import SiteResponse
from provision.teaching.keepalive import KeepAliveClient

READERS, READS_PER_SECOND = 4, 8.0
WRITERS, WRITES_PER_SECOND = 2, 6.0
"""Threads, and requests per second of each thread: 44 requests per second in total."""

READ_TIMEOUT = 10.0
WRITE_TIMEOUT = 3.0
"""Timeouts of a read and of one attempt of a write, in seconds."""

GRACE = 20.0
"""Seconds after the end during which unacknowledged writes are still retried."""

PATHS = ("/", "/api/notes?limit=3", "/static/foobar.css")


@dataclass(frozen=True)
class WorkloadResult:
    """The results of a workload. Times are in seconds.

    Args:
        name: author of the notes that were written.
        reads: number of reads.
        failures: time since the start and response of each read without status 200.
        writes: number of write requests, retries included.
        refusals: time and response of each unacknowledged write request; all were retried.
        acknowledged: ids of writes with status 200 or 201.
        unanswered: ids of writes that were never acknowledged.
        worst_read: maximum duration of a read.
        worst_write: maximum time from the first attempt of a write to its acknowledgment.
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
        """The number of all requests."""
        return self.reads + self.writes


def shown(response: SiteResponse) -> str:
    """A failed response in one line."""
    return f"{response.status} {(response.error or response.body)[:160]}"


@dataclass
class Workload:
    """Reader and writer threads: `start` them, and `finish` returns their results.

    Args:
        lab: receives the requests at its front machine; its network must be up.
        seconds: duration.
    """

    lab: Lab
    seconds: float
    name: str = field(default_factory=lambda: f"t{uuid4().hex[:10]}")
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _reads: list[tuple[float, float, str]] = field(default_factory=list)
    _attempts: list[tuple[float, str]] = field(default_factory=list)
    _acknowledged: dict[str, tuple[float, float]] = field(default_factory=dict)
    _unanswered: set[str] = field(default_factory=set)
    _start: float = 0.0

    def start(self) -> None:
        """Start all threads."""
        self._start = time.monotonic()
        for number in range(READERS):
            self._start_thread(self._read, number, READERS, READS_PER_SECOND)
        for number in range(WRITERS):
            self._start_thread(self._write, number, WRITERS, WRITES_PER_SECOND)

    def _start_thread(self, work: object, number: int, of: int, rate: float) -> None:
        arguments = (work, number / of / rate, 1 / rate)
        thread = threading.Thread(target=self._pace, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def wait(self, moment: float) -> None:
        """Return this many seconds after the start, or when `stop` is called."""
        self._stopped.wait(max(0.0, moment - self.elapsed()))

    def stop(self) -> None:
        """Stop before the duration has elapsed."""
        self._stopped.set()

    def finish(self) -> WorkloadResult:
        """Wait for all threads and return their results."""
        for thread in self._threads:
            thread.join(self.seconds + GRACE + READ_TIMEOUT)
            assert not thread.is_alive(), "a thread of the workload does not end"
        length = max([self.seconds, *(at for at, _ in self._acknowledged.values())])
        if self._stopped.is_set():
            length = min(length, self._until)
        moments = sorted([0.0, *(at for at, _ in self._acknowledged.values()), length])
        gaps = (later - earlier for earlier, later in pairwise(moments))
        return WorkloadResult(
            self.name,
            len(self._reads),
            tuple((round(at, 2), what) for at, _, what in self._reads if what),
            len(self._attempts),
            tuple((round(at, 2), what) for at, what in self._attempts if what),
            frozenset(self._acknowledged),
            frozenset(self._unanswered),
            max((took for _, took, _ in self._reads), default=0.0),
            max((took for _, took in self._acknowledged.values()), default=0.0),
            max(gaps),
        )

    _until: float = 0.0

    def _pace(self, work: object, first: float, every: float) -> None:
        """Call `work` at a constant rate; calls that a slow one has delayed are dropped."""
        timeout = READ_TIMEOUT if work == self._read else WRITE_TIMEOUT
        client = KeepAliveClient(self.lab, timeout)
        due, count = first, 0
        while due < self.seconds and not self._stopped.is_set():
            self.wait(due)
            work(client, count)  # type: ignore[operator]
            count += 1
            due = max(due + every, self.elapsed())
        self._until = max(self._until, self.elapsed())
        client.close()

    def _read(self, client: KeepAliveClient, count: int) -> None:
        at = self.elapsed()
        response = client.request("GET", PATHS[count % len(PATHS)])
        what = "" if response.status == 200 else shown(response)
        with self._lock:
            self._reads.append((at, self.elapsed() - at, what))

    def _write(self, client: KeepAliveClient, count: int) -> None:
        note, at = uuid4().hex, self.elapsed()
        body = json.dumps({"id": note, "author": self.name, "text": note})
        while True:
            sent = self.elapsed()
            response = client.request("POST", "/api/notes", body)
            good = response.status in (200, 201)
            with self._lock:
                self._attempts.append((sent, "" if good else shown(response)))
                if good:
                    self._acknowledged[note] = (self.elapsed(), self.elapsed() - at)
                    return
                if self.elapsed() > self.seconds + GRACE:
                    self._unanswered.add(note)
                    return
            time.sleep(0.1)


@dataclass(frozen=True)
class WriteCount:
    """Acknowledged writes that one database does not have, and writes that it has repeatedly."""

    missing: int
    duplicated: int


def count_writes(
    fleet: Fleet, workload: WorkloadResult, timeout: float = 30.0
) -> Mapping[str, WriteCount]:
    """Query every database for the acknowledged writes.

    Args:
        fleet: the lab's machines.
        workload: the results with the writes.
        timeout: seconds that a replica has to catch up.

    Returns:
        The counts by machine.
    """
    sql = f"SELECT text, COUNT(*) FROM foobar.notes WHERE author = '{workload.name}' GROUP BY text"
    counts = {}
    for machine in fleet.lab.with_role("mysql"):
        deadline = time.monotonic() + timeout
        while True:
            result = fleet.host(machine.name).run("mysql", "-N", "-B", "-e", sql)
            rows = dict(line.split("\t") for line in result.stdout.splitlines())
            missing = len(workload.acknowledged - set(rows))
            if (result.ok and not missing) or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        assert result.ok, f"{machine.name}: {result.stderr}"
        counts[machine.name] = WriteCount(missing, sum(number != "1" for number in rows.values()))
    return counts
