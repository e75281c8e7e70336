"""Reading a machine's file system, whatever is there: no call blocks, and every name is shown.

Names are text with surrogate escapes (os.fsencode), also on the wire; `shown` is for messages.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from provision.engine.agent.process import AgentError

TEXT_LIMIT = 16 * 1024 * 1024
"""Bytes of a file that is read as a whole."""

ENTRIES_LIMIT = 20_000
"""Entries of a directory tree; more are a reason to stop, not to wait."""

CHUNK = 1 << 20

NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""No file can be at such a path, also below a file or a circular link."""


class NotRegularError(AgentError):
    """Something else is where a regular file belongs."""


def shown(name: str) -> str:
    """A name for messages: bytes that are not UTF-8 and control characters are escaped."""
    try:
        data = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        data = name.encode("utf-8", "backslashreplace")
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in data.decode("utf-8", "backslashreplace")
    )


def shown_lines(text: str) -> str:
    """Text of several lines for messages; see `shown`."""
    return "\n".join(shown(line.replace("\t", "    ")) for line in text.splitlines())


def kind_of(status: os.stat_result) -> str:
    """``file``, ``link``, ``directory``, ``fifo``, ``socket`` or ``device``."""
    kinds = {
        stat.S_IFREG: "file",
        stat.S_IFLNK: "link",
        stat.S_IFDIR: "directory",
        stat.S_IFIFO: "fifo",
        stat.S_IFSOCK: "socket",
    }
    return kinds.get(stat.S_IFMT(status.st_mode), "device")


def status_of(path: str) -> os.stat_result | None:
    """The status of a path itself; None when nothing is there."""
    try:
        return os.lstat(path)
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return None
        raise


def is_real_directory(path: str) -> bool:
    """Whether a directory is there, not a link to one."""
    status = status_of(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def open_regular(path: str, *, follow: bool = False) -> BinaryIO:
    """Open a regular file for reading.

    Args:
        follow: whether a link to a regular file is opened, too.

    Raises:
        NotRegularError: for a fifo, a socket, a device or a directory; none of these is opened.
        OSError: when there is nothing, or it is not readable.
    """
    status = os.stat(path) if follow else os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularError(f"{shown(path)} is a {kind_of(status)}, not a file")
    # It may have been replaced since: without O_NONBLOCK, a fifo would block here.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags | (0 if follow else getattr(os, "O_NOFOLLOW", 0)))
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise NotRegularError(f"{shown(path)} is a {kind_of(status)}, not a file")
    return os.fdopen(descriptor, "rb")


def digest_and_start(path: str, keep: int) -> tuple[str, bytes]:
    """SHA-256 of a regular file, and its content when that has at most ``keep`` bytes."""
    total, start = hashlib.sha256(), bytearray()
    with open_regular(path) as file:
        while chunk := file.read(CHUNK):
            total.update(chunk)
            if len(start) <= keep:
                start += chunk
    return total.hexdigest(), bytes(start) if len(start) <= keep else b""


def read_bytes(path: str) -> bytes:
    """The content of a regular file, or of one that a link names.

    Raises:
        AgentError: when it is larger than `TEXT_LIMIT` bytes, or is not a file.
        OSError: when there is nothing, or it is not readable.
    """
    with open_regular(path, follow=True) as file:
        data = file.read(TEXT_LIMIT + 1)
    if len(data) > TEXT_LIMIT:
        raise AgentError(f"{shown(path)} is larger than {TEXT_LIMIT >> 20} MiB")
    return data


def read_text(path: str) -> str:
    """The text of a file; empty when there is none, or something else is there."""
    try:
        return read_bytes(path).decode(errors="replace")
    except NotRegularError:
        return ""
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return ""
        raise


def walk(top: str, limit: int = ENTRIES_LIMIT) -> Iterator[tuple[str, os.stat_result]]:
    """Everything below a directory that is no directory itself, without following links.

    Python's caches are left out. What vanishes meanwhile, or cannot be listed, is left out.

    Raises:
        AgentError: when there are more than ``limit`` entries.
    """
    count = 0
    for folder, folders, names in os.walk(top):
        links = [name for name in folders if os.path.islink(f"{folder}/{name}")]
        folders[:] = sorted(n for n in folders if n != "__pycache__" and n not in links)
        for name in [*names, *links]:
            count += 1
            if count > limit:
                raise AgentError(f"{shown(top)} has more than {limit} entries")
            status = status_of(f"{folder}/{name}")
            if status is not None:
                yield f"{folder}/{name}", status
