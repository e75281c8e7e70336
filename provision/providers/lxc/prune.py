"""Images that no machine needs any more: which they are, and away with them."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from provision.providers.lxc import places
from provision.providers.lxc.privileged import run


def unused_images() -> tuple[Path, ...]:
    """The images and layers that no machine and no snapshot on this host stands on."""
    stored = (*places.cache().glob("images/*"), *places.cache().glob("layers/*"))
    used = used_in(_rootfs_lines())
    return tuple(sorted(path for path in stored if path.is_dir() and path not in used))


def prune_images() -> tuple[Path, ...]:
    """Remove them, and what cut off builds left; what was removed is returned.

    An image is renamed first, so that half an image is never taken for one.
    """
    gone = []
    with in_use(exclusive=True):
        for path in unused_images():
            store, doomed = path.parent, path
            if not path.name.startswith("."):
                doomed = store / f".new.{path.name}"
                run(f"removing {path}", ["mv", "-T", "--", path, doomed])
            lock = store / f".lock.{doomed.name.removeprefix('.new.')}"
            removal = ["rm", "-rf", "--one-file-system", "--", str(doomed)]
            if run(f"removing {path}", ["flock", "-n", str(lock), *removal], ok=(0, 1)).status == 0:
                gone.append(path)
    return tuple(gone)


def used_in(lines: Iterable[str]) -> frozenset[Path]:
    """The image folders that ``lxc.rootfs.path = overlay:…`` lines name."""
    found = set()
    for line in lines:
        paths = re.sub(r"^.*=\s*overlay:", "", line.strip()).split(":")
        found |= {Path(path).parent for path in paths[:-1]}
    return frozenset(found)


@contextmanager
def in_use(*, exclusive: bool = False) -> Iterator[None]:
    """While machines are made from images, nobody prunes them; a lock that the kernel releases."""
    folder = places.cache()
    if not folder.is_dir():
        run(f"making {folder}", ["install", "-d", "-m", "755", "--", folder])
    lock = folder / ".lock"
    if not lock.exists():
        run(f"making {lock}", ["install", "-m", "644", "/dev/null", lock])
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield


def _rootfs_lines() -> list[str]:
    if not places.HOST.exists():
        return []
    grep = ["-exec", "grep", "-h", "^lxc.rootfs.path", "{}", "+"]
    # <lab>/<machine>/config, and <lab>/.snapshots/<name>/<machine>/config
    argv = ["find", str(places.HOST), "-maxdepth", "5", "-name", "config", "-type", "f", *grep]
    return run("reading machines' configurations", argv, ok=(0, 1)).out.splitlines()
