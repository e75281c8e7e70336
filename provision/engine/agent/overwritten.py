"""Copies of files that somebody changed by hand, kept before the lab overwrites or removes them.

The digests of the files that the lab wrote last tell a change by hand from a change of the lab.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Mapping

from provision.engine.agent.filesystem import read_text
from provision.engine.agent.process import AgentError, must

HOME = "/var/lib/foobar-lab"
FOLDER = f"{HOME}/overwritten"
"""One folder per time, readable by root only; below it, files have their full path."""

BACKUPS = "/var/backups/foobar-lab-overwritten"
"""Where the copies stay when the lab is removed from a machine."""

WRITTEN = f"{HOME}/written.json"
"""SHA-256 by path of what the lab wrote last."""

KEPT = 50
"""So many folders are kept, the newest."""

LIMIT = 16 * 1024 * 1024
"""Bytes; of a larger file no copy is kept."""


def digest(data: bytes) -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(data).hexdigest()


def written() -> dict[str, str]:
    """Digests of what the lab wrote last, by path; empty when the record is lost."""
    try:
        values = json.loads(read_text(WRITTEN))
        return {str(path): str(value) for path, value in values.items()}
    except (OSError, ValueError, AttributeError, AgentError):
        return {}


def move_to_backups() -> bool:
    """Move all copies to `BACKUPS`, to those of an earlier clean-up; whether there were any."""
    if not os.path.isdir(FOLDER):
        return False
    os.makedirs(BACKUPS, mode=0o700, exist_ok=True)
    must(["cp", "--archive", "--", f"{FOLDER}/.", BACKUPS])
    shutil.rmtree(FOLDER)
    return True


def record_written(digests: Mapping[str, str]) -> None:
    """Add to the record what a unit wrote."""
    if not digests:
        return
    merged = {**written(), **digests}
    os.makedirs(HOME, exist_ok=True)
    temporary = f"{WRITTEN}.lab-new"
    with open(temporary, "w") as file:
        json.dump(merged, file)
    os.replace(temporary, WRITTEN)


class Copies:
    """The copies that one transaction keeps, all in one folder."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self._folder = ""
        self._written: dict[str, str] | None = None

    def changed_by_hand(self, path: str, data: bytes, *, below: str = "") -> bool:
        """Whether a file with this content is not what the lab wrote last at this path.

        Args:
            below: a tree of the lab, in which every other file is foreign.
        """
        if self._written is None:
            self._written = written()
        if path in self._written:
            return self._written[path] != digest(data)
        return bool(below) and any(known.startswith(f"{below}/") for known in self._written)

    def keep(self, path: str) -> None:
        """Copy a regular file or a link; skip what the lab itself wrote, and everything else."""
        try:
            status = os.lstat(path)
        except OSError:
            return
        link = stat.S_ISLNK(status.st_mode)
        if not link and (not stat.S_ISREG(status.st_mode) or status.st_size > LIMIT):
            return
        if not link and self._written_by_the_lab(path):
            return
        target = self._target(path)
        if os.path.lexists(target):
            return
        if link:
            os.symlink(os.readlink(path), target)
        else:
            shutil.copyfile(path, target)
            os.chmod(target, 0o600)
            os.utime(target, (status.st_atime, status.st_mtime))
        self.paths.append(target)

    def _written_by_the_lab(self, path: str) -> bool:
        if self._written is None:
            self._written = written()
        if path not in self._written:
            return False
        with open(path, "rb") as file:
            return self._written[path] == digest(file.read())

    def move(self, path: str) -> str:
        """Move anything out of the way: a directory, a fifo, a large file; returns its new path."""
        target, number = self._target(path), 1
        while os.path.lexists(target):
            number += 1
            target = f"{self._folder}{path}.{number}"
        must(["mv", "--no-target-directory", "--", path, target])
        self.paths.append(target)
        return target

    def move_back(self, target: str, path: str) -> None:
        """Undo `move`."""
        must(["mv", "--no-target-directory", "--", target, path])
        self.paths.remove(target)

    def _target(self, path: str) -> str:
        if not self._folder:
            self._folder = _new_folder()
        target = f"{self._folder}{path}"
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        return target


def _new_folder() -> str:
    os.makedirs(FOLDER, mode=0o700, exist_ok=True)
    os.chmod(FOLDER, 0o700)
    for name in sorted(os.listdir(FOLDER))[: -(KEPT - 1)]:
        shutil.rmtree(f"{FOLDER}/{name}", ignore_errors=True)
    stamp = time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime())
    for number in range(1, 1000):
        path = f"{FOLDER}/{stamp}-{number:03}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
            return path
    raise FileExistsError(FOLDER)
