"""Failed writes in HAProxy's log: which requests that change data got no good response, and when.

Source of the format: HAProxy's configuration manual, 8.2.3 (HTTP log format).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

UNIT = "haproxy"
METHODS = ("POST", "PUT", "PATCH", "DELETE")
LIMIT = 20_000
"""How many of the newest writes are read."""

COMMAND = (
    *("journalctl", "--no-pager", "-o", "short-unix", "-u", UNIT, "-n", str(LIMIT)),
    *("--grep", f'"({"|".join(METHODS)}) '),
)
"""Prints the log lines of writes, the oldest first, with seconds since 1970."""

_LINE = re.compile(
    r"(?P<end>\d+\.\d+) .*\] \S+ \S+/\S+ [-\d]+/[-\d]+/[-\d]+/[-\d]+/\+?(?P<total>\d+) "
    r'(?P<status>-?\d+) \S+ \S+ \S+ (?P<flags>\S+) .*"(?P<method>[A-Z]+) '
)


@dataclass(frozen=True)
class LoggedWrite:
    """One write; begin and end are seconds since 1970 by the balancer's clock."""

    begin: float
    end: float
    ok: bool


@dataclass(frozen=True)
class FailedWrites:
    """The writes that failed since the last one that succeeded; ``first`` is when they began."""

    count: int
    first: float


def parse_writes(text: str) -> list[LoggedWrite]:
    """The writes in the output of `COMMAND`.

    A response with 4xx says nothing about the database, and neither does a client that gave up
    (termination state ``C``): both are left out.
    """
    writes = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None or match["method"] not in METHODS:
            continue
        status, end = int(match["status"]), float(match["end"])
        if 400 <= status < 500 or (status < 0 and match["flags"].startswith("C")):
            continue
        begin = end - int(match["total"]) / 1000
        writes.append(LoggedWrite(begin, end, 200 <= status < 400))
    return writes


def failed_writes(writes: Iterable[LoggedWrite], until: float) -> FailedWrites | None:
    """The writes that failed before a moment, since the last success before it; None for none.

    Args:
        until: when writes were possible again.
    """
    before = [write for write in writes if write.begin < until]
    succeeded = max((w.end for w in before if w.ok and w.end < until), default=0.0)
    failed = [w for w in before if not w.ok and w.end > succeeded]
    if not failed:
        return None
    return FailedWrites(len(failed), min(w.begin for w in failed))
