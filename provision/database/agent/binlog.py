"""What mysqlbinlog prints, and GTID sets: pure functions, which the controller uses as well.

So nothing may be imported here that is on machines alone.
"""

from __future__ import annotations

import re
from typing import Any

_COMMIT = re.compile(rb"original_commit_timestamp=(\d+)")
_GTID = re.compile(rb"SET @@SESSION\.GTID_NEXT= '([0-9a-f-]+:(?:\w+:)?\d+)'")


def count(gtids: str) -> int:
    """How many transactions a GTID set has. A pure function."""
    total = 0
    for part in gtids.replace("\n", "").split(","):
        for interval in part.strip().split(":")[1:]:
            first, _, last = interval.partition("-")
            if first.isdigit():
                total += int(last or first) - int(first) + 1
    return total


def commits(lines: Any) -> list[tuple[int, str]]:
    """Microseconds and GTID of each transaction in the output of mysqlbinlog. A pure function."""
    found = []
    when = 0
    for line in lines:
        if match := _COMMIT.search(line):
            when = int(match.group(1))
        elif match := _GTID.search(line):
            found.append((when, match.group(1).decode()))
    return found
