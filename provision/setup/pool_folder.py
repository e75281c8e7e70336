"""The folder of the package pool, and the owner of its files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

SETS = ".sets"
"""Folder in the pool: which files an installation needed, one JSON file per package set."""


def default_folder() -> Path:
    """The pool of this user: LAB_POOL; for root beside the images (LAB_CACHE)."""
    if os.environ.get("LAB_POOL"):
        return Path(os.environ["LAB_POOL"]).absolute()
    if os.environ.get("LAB_CACHE"):
        return Path(os.environ["LAB_CACHE"]).absolute() / "pool"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif os.geteuid() == 0:
        base = Path("/var/cache")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "foobar-lab" / "pool"


def make_folder(store: Path, folder: Path) -> None:
    """Create a folder of the pool, with the owner of the pool when root does it."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        give_to_owner(store, path)


def give_to_owner(store: Path, path: Path) -> None:
    """Give a new file to the owner of the pool: root writes to it for a user with sudo, too."""
    if sys.platform != "win32" and os.geteuid() == 0 and store.exists() and path != store:
        status = store.stat()
        os.chown(path, status.st_uid, status.st_gid)
