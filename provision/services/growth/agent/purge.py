"""Remove what exceeds its bound: lab-purge.service runs this module as a program once an hour.

Its argument is a file with entries of ``provision/core/growth.py`` as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from provision.services.growth.agent.measure import matches, size_of

Entry = Mapping[str, Any]

TRIMMED = 8
"""A file that is cut keeps this part of its entry's limit: one eighth."""


def purge(entry: Entry) -> list[str]:
    """Enforce the bound of one entry; returns what was done, one line per path."""
    kind = entry["purge"]
    if kind == "trim":
        return trim(entry)
    if kind == "binlogs":
        return purge_binary_logs(entry["limit"])
    return remove(entry)


def trim(entry: Entry) -> list[str]:
    """Cut the largest files to their newest part until all of them are below the limit."""
    limit, done = int(entry["limit"]), []
    files = sorted(filter(os.path.isfile, matches(entry["paths"])), key=size_of, reverse=True)
    total = sum(map(size_of, files))
    for path in files:
        if total <= limit:
            break
        before = size_of(path)
        kept = cut(path, limit // TRIMMED, int(entry.get("record", 0)))
        total -= before - size_of(path)
        done.append(f"{path}: cut to its newest {kept} bytes")
    return done


def cut(path: str, size: int, record: int = 0) -> int:
    """Keep the end of a file, from the start of a line or record, in place.

    The file keeps its inode, because a running service may have it open for appending.

    Returns:
        the number of bytes that are kept.
    """
    with open(path, "r+b") as file:
        end = file.seek(0, os.SEEK_END)
        if record:
            size -= size % record
            end -= end % record
        file.seek(max(0, end - size))
        tail = file.read(size)
        if not record and end > size:
            tail = tail.partition(b"\n")[2]
        file.seek(0)
        file.truncate()
        file.write(tail)
    return len(tail)


def remove(entry: Entry) -> list[str]:
    """Remove the oldest matches until their number and size are within the bound."""
    limit, count, done = int(entry["limit"]), int(entry.get("count", 0)), []
    sizes = {path: size_of(path) for path in sorted(matches(entry["paths"]), key=_changed)}
    total, left = sum(sizes.values()), len(sizes)
    for path, size in sizes.items():
        if total <= limit and (not count or left <= count):
            break
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        total, left = total - size, left - 1
        done.append(f"{path}: removed, {size} bytes")
    return done


def _changed(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0.0


# --- binary logs ---------------------------------------------------------------------------------


def purge_binary_logs(limit: int) -> list[str]:
    """Let mysqld purge the oldest binary logs; it keeps those that a replica is reading.

    A server that does not run has nothing to purge.
    """
    listed = _mysql("SHOW BINARY LOGS")
    if listed is None:
        return []
    first = first_to_keep(listed, limit)
    if not first or _mysql(f"PURGE BINARY LOGS TO '{first}'") is None:
        return []
    return [f"binary logs before {first}: purged"]


def first_to_keep(listed: str, limit: int) -> str:
    """The first binary log of those that fit into the limit; empty when all of them fit.

    Args:
        listed: SHOW BINARY LOGS, tab-separated: name, size, encryption; the current one is last.
    """
    logs = [(line.split("\t")[0], int(line.split("\t")[1])) for line in listed.splitlines() if line]
    total, first = 0, len(logs)
    for index in range(len(logs) - 1, -1, -1):
        total += logs[index][1]
        if total > limit and first < len(logs):
            break
        first = index
    return logs[first][0] if logs and first > 0 else ""


def _mysql(statement: str) -> str | None:
    argv = ["mysql", "--batch", "--skip-column-names", f"--execute={statement}"]
    try:
        result = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"<4>{statement}: {error}")
        return None
    if result.returncode != 0:
        print(f"<4>{statement}: {result.stderr.strip()}")
        return None
    return result.stdout


def main(argv: Sequence[str]) -> int:
    """Enforce every bound; a failure of one does not keep the others from being enforced."""
    with open(argv[1]) as file:
        entries: list[Entry] = json.load(file)
    failed = False
    for entry in entries:
        if not entry["purge"]:
            continue
        try:
            for line in purge(entry):
                print(line)
        except OSError as error:
            print(f"<3>{entry['what']}: {error}")
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
