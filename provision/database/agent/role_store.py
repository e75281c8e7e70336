"""The role record on a machine's disk: it survives reboots and needs no controller."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

from provision.database.agent.role_record import RoleRecord
from provision.engine.agent.atomic import write_atomically
from provision.engine.agent.filesystem import read_text

RECORD = "/etc/foobar-lab/mysql-role.json"

LOCK = "/run/foobar-lab/mysql-role.lock"
"""Held while a process reads the record and acts on it, so that fencing and promotion exclude each
other."""


def read_json(path: str) -> dict[str, Any]:
    """A JSON object from a file; empty when the file does not exist."""
    text = read_text(path)
    content: dict[str, Any] = json.loads(text) if text else {}
    return content


def load_record() -> RoleRecord | None:
    """Read the record; None when this machine has none."""
    content = read_json(RECORD)
    return RoleRecord(**content) if content else None


def save_record(record: RoleRecord) -> None:
    """Write the record atomically."""
    os.makedirs(os.path.dirname(RECORD), exist_ok=True)
    write_atomically(RECORD, record.text.encode(), 0o644)


def sync_folder(path: str) -> None:
    """Flush a directory to disk, so that a file that was renamed into it survives a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def role_lock() -> Iterator[None]:
    """Exclude every other process on this machine that changes the database's role."""
    import fcntl  # not on Windows, where the controller imports this module too

    os.makedirs(os.path.dirname(LOCK), exist_ok=True)
    with open(LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
