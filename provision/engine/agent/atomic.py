"""Write a file or a link of a machine atomically: a reader sees the old one or the new one."""

from __future__ import annotations

import contextlib
import os

from provision.engine.agent.filesystem import is_real_directory
from provision.engine.agent.overwritten import Copies


def write_atomically(path: str, data: bytes, mode: int, uid: int = 0, gid: int = 0) -> None:
    """Write a file; a reader sees the old content or the new. A directory there is moved away."""
    temporary = _unused(f"{path}.lab-new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
        file.write(data)
        os.fchown(file.fileno(), uid, gid)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    if is_real_directory(path):
        Copies().move(path)
    try:
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def replace_link(path: str, target: str) -> None:
    """Make a path a symbolic link, in place of a file or another link."""
    temporary = _unused(f"{path}.lab-new")
    os.symlink(target, temporary)
    os.replace(temporary, path)


def _unused(temporary: str) -> str:
    if is_real_directory(temporary):
        Copies().move(temporary)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    return temporary
