"""Write a file atomically: a reader sees the old content or the new, also after a power failure."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from provision.core import platform as controller
from provision.core.errors import UsageError
from provision.core.files import cannot_write


def write_atomically(path: Path, data: str | bytes, mode: int = 0o600) -> None:
    """Replace a file's content; create the file and its folder if they do not exist.

    Args:
        data: text is written as UTF-8, with its line ends unchanged.
        mode: the file has these permissions before its first byte is written.

    Raises:
        LabError: when the file cannot be written; the old content stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, mode) as file:
            file.write(data.encode() if isinstance(data, str) else data)
    except OSError as error:
        raise cannot_write(path, error) from None


def create_file(path: Path, text: str) -> None:
    """Write a new file that the user asked for; it appears whole or not at all.

    Raises:
        UsageError: when it exists already.
        LabError: when it cannot be written.
    """
    if path.exists():
        raise UsageError(f"{path} exists already", "choose another name")
    try:
        with atomic_file(path, 0o644) as file:
            file.write(text.encode())
    except OSError as error:
        raise cannot_write(path, error) from None


@contextlib.contextmanager
def atomic_file(
    path: Path, mode: int = 0o600, owner: tuple[int, int] | None = None
) -> Iterator[BinaryIO]:
    """A file that takes the place of ``path`` when the body ends without an exception.

    Args:
        owner: uid and gid; the current user's when None.

    Raises:
        OSError: when it cannot be written; the old content stays.
    """
    # mkstemp opens with O_EXCL and mode 0600: no other process has the file open or can read it.
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            if owner is not None and controller.POSIX:
                os.chown(temporary, *owner)
            if mode != 0o600:
                temporary.chmod(mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        controller.replace_file(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
