"""Parse the output of mysqlbinlog; the controller uses this too."""

from __future__ import annotations

import re
from collections.abc import Iterable

_COMMIT = re.compile(rb"original_commit_timestamp=(\d+)")
_GTID = re.compile(rb"SET @@SESSION\.GTID_NEXT= '([0-9a-f-]+:(?:\w+:)?\d+)'")


def parse_commits(lines: Iterable[bytes]) -> list[tuple[int, str]]:
    """Commit time (microseconds since 1970) and GTID of each transaction."""
    commits = []
    moment = 0
    for line in lines:
        if match := _COMMIT.search(line):
            moment = int(match.group(1))
        elif match := _GTID.search(line):
            commits.append((moment, match.group(1).decode()))
    return commits
