"""The digest of a release's files, which /version reports: which code this process has loaded."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path


def tree_digest(directory: Path) -> str:
    """Return one SHA-256 over the paths, executable bits and contents of all files.

    Compiled Python is left out. The controller computes the same digest.
    """
    lines = []
    for folder, folders, files in os.walk(directory):
        folders[:] = [name for name in folders if name != "__pycache__"]
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in [*files, *links]:
            path = Path(folder, name)
            try:
                lines.append(f"{path.relative_to(directory).as_posix()} {_content(path)}")
            except OSError:  # it vanished, or this user may not read it: no file of a release
                lines.append(f"{name} is not readable")
    return hashlib.sha256("\n".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()


def _content(path: Path) -> str:
    """Executable bit and digest of a file, or target of a link; a fifo is not opened."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return f"link {path.readlink()}"
    if not stat.S_ISREG(status.st_mode):
        return "no file"
    executable = "x" if status.st_mode & 0o100 else "-"
    return f"{executable} {hashlib.sha256(path.read_bytes()).hexdigest()}"
