"""Judge a history: what independent clients were told, against what the databases hold.

The checker knows nothing of how the lab works, only what it promises: an acknowledged write exists
once on every database; a write that was refused by all attempts does not; a session sees its own
writes or is refused; its writes are stored in its order; what anybody has read stays.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

ACKNOWLEDGED, REFUSED, UNKNOWN = "acknowledged", "refused", "unknown"
"""Results of an attempt to write. After `UNKNOWN` the write may exist."""

FOUND, MISSING, UNAVAILABLE = "found", "missing", "unavailable"
"""Results of a read of one note."""


@dataclass(frozen=True)
class Attempt:
    """One request to store a note. Times are seconds on one clock.

    Args:
        session: whose cookies it had; a session has one request at a time.
    """

    session: int
    note: str
    sent: float
    ended: float
    result: str


@dataclass(frozen=True)
class NoteRead:
    """One request for a note."""

    session: int
    note: str
    sent: float
    ended: float
    result: str


@dataclass(frozen=True)
class History:
    """All requests of all sessions."""

    attempts: tuple[Attempt, ...]
    reads: tuple[NoteRead, ...]

    @property
    def acknowledged(self) -> dict[str, Attempt]:
        """The first acknowledgment of each note."""
        first: dict[str, Attempt] = {}
        for attempt in sorted(self.attempts, key=lambda a: a.ended):
            if attempt.result == ACKNOWLEDGED:
                first.setdefault(attempt.note, attempt)
        return first


def violations(history: History, databases: Mapping[str, Sequence[str]]) -> list[str]:
    """Every broken promise, one line each.

    Args:
        databases: by database, the ids of the notes in the order in which they are stored.
    """
    return [
        *_stale_reads(history),
        *(line for name, rows in databases.items() for line in _content(history, name, rows)),
        *_differences(databases),
    ]


def _stale_reads(history: History) -> Iterable[str]:
    acknowledged = history.acknowledged
    for read in history.reads:
        own = acknowledged.get(read.note)
        if own and read.result == MISSING and own.session == read.session and own.ended < read.sent:
            late = read.sent - own.ended
            yield f"stale: session {read.session} got 404 for its {read.note}, {late:.2f} s later"


def _content(history: History, name: str, rows: Sequence[str]) -> Iterable[str]:
    counts, acknowledged = Counter(rows), history.acknowledged
    results: defaultdict[str, set[str]] = defaultdict(set)
    for attempt in history.attempts:
        results[attempt.note].add(attempt.result)
    yield from (f"lost: {name} lacks acknowledged {n}" for n in acknowledged if not counts[n])
    yield from (f"doubled: {name} has {n} {c} times" for n, c in counts.items() if c > 1)
    yield from (
        f"phantom: {name} has {n}, which was never sent" for n in counts if n not in results
    )
    for note, kinds in results.items():
        if kinds == {REFUSED} and counts[note]:
            yield f"phantom: {name} has {note}, which was refused"
    for note in {read.note for read in history.reads if read.result == FOUND}:
        if not counts[note]:
            yield f"vanished: {name} lacks {note}, which was read"
    yield from _disorder(history, name, rows)


def _disorder(history: History, name: str, rows: Sequence[str]) -> Iterable[str]:
    """Writes of a session that are stored in another order than it made them."""
    position = {note: index for index, note in enumerate(rows)}
    sessions: defaultdict[int, list[Attempt]] = defaultdict(list)
    for note, attempt in history.acknowledged.items():
        if note in position:
            sessions[attempt.session].append(attempt)
    begun: dict[str, float] = {}
    for attempt in history.attempts:
        begun[attempt.note] = min(attempt.sent, begun.get(attempt.note, attempt.sent))
    for session, attempts in sessions.items():
        for first, second in pairwise(sorted(attempts, key=lambda a: a.ended)):
            ordered = first.ended < begun[second.note]
            if ordered and position[first.note] > position[second.note]:
                yield f"order: {name} has {second.note} of session {session} before {first.note}"


def _differences(databases: Mapping[str, Sequence[str]]) -> Iterable[str]:
    (first, *others) = databases
    for other in others:
        if list(databases[first]) != list(databases[other]):
            yield f"different: {first} and {other} do not hold the same notes in the same order"


def overlaps(samples: Mapping[str, Sequence[float]], longest: float) -> list[str]:
    """When two databases were writable at the same time.

    Args:
        samples: by database, the times at which it was seen writable.
        longest: seconds between two samples that belong to one interval.
    """
    intervals = [
        (start, end, name)
        for name, times in samples.items()
        for start, end in _intervals(sorted(times), longest)
    ]
    intervals.sort()
    return [
        f"split brain: {b[2]} was writable {a[1] - b[0]:.2f} s before {a[2]} was read-only"
        for a, b in pairwise(intervals)
        if a[2] != b[2] and b[0] < a[1]
    ]


def _intervals(times: Sequence[float], longest: float) -> Iterable[tuple[float, float]]:
    begun: float | None = None
    for index, time in enumerate(times):
        begun = time if begun is None else begun
        if index + 1 == len(times) or times[index + 1] - time > longest:
            yield begun, time
            begun = None
