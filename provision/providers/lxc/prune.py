"""Remove images and layers that no machine and no snapshot of any lab on this host uses."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from provision.providers.lxc import paths
from provision.providers.lxc.privileged import make_folders, run

BUNDLED = "bundled"
"""In the folder of an image that came from a bundle: it cannot be built again without a network."""


@dataclass(frozen=True)
class UnusedImage:
    """An image or a layer that could be removed.

    Args:
        size: bytes on the disk.
    """

    path: Path
    size: int


def unused_images() -> tuple[UnusedImage, ...]:
    """The unused images, layers and remains of interrupted builds, sorted by path."""
    folders = _unused_folders()
    if not folders:
        return ()
    du = ["du", "-s", "--block-size=1", "--", *map(str, folders)]
    lines = run("measuring images", du, ok=(0, 1)).stdout.splitlines()
    sizes = {path: int(size) for size, _, path in (line.partition("\t") for line in lines)}
    return tuple(UnusedImage(path, sizes[str(path)]) for path in folders if str(path) in sizes)


def prune_images() -> tuple[UnusedImage, ...]:
    """Remove the unused images, except those that are being built; returns the removed ones.

    An image is renamed first, so that a partly removed one is never used.
    """
    removed = []
    with images_locked(exclusive=True):
        for image in unused_images():
            store, doomed = image.path.parent, image.path
            if not doomed.name.startswith("."):
                doomed = store / f".new.{doomed.name}"
                run(f"removing {image.path}", ["mv", "-T", "--", image.path, doomed])
            lock = store / f".lock.{doomed.name.removeprefix('.new.')}"
            removal = ["rm", "-rf", "--one-file-system", "--", str(doomed)]
            action = f"removing {image.path}"
            if run(action, ["flock", "-n", lock, *removal], ok=(0, 1)).ok:
                removed.append(image)
    return tuple(removed)


def images_in(lines: Iterable[str]) -> frozenset[Path]:
    """The image folders in ``lxc.rootfs.path = overlay:…`` lines."""
    folders = set()
    for line in lines:
        layers = re.sub(r"^.*=\s*overlay:", "", line.strip()).split(":")
        folders |= {Path(layer).parent for layer in layers[:-1]}
    return frozenset(folders)


@contextmanager
def images_locked(*, exclusive: bool = False) -> Iterator[None]:
    """Hold the image store's lock: shared while machines are created, exclusive while pruning."""
    folder = paths.cache()
    if not folder.is_dir():
        make_folders(folder)
    lock = folder / ".lock"
    if not lock.exists():
        run(f"creating {lock}", ["install", "-m", "644", "/dev/null", lock])
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield


def _unused_folders() -> tuple[Path, ...]:
    stored = (*paths.cache().glob("images/*"), *paths.cache().glob("layers/*"))
    used = images_in(_rootfs_lines())
    return tuple(
        sorted(
            path
            for path in stored
            if path.is_dir() and path not in used and not (path / BUNDLED).exists()
        )
    )


def _rootfs_lines() -> list[str]:
    """The root file system of every machine and every snapshot of every lab on this host."""
    if not paths.HOST.exists():
        return []
    # <lab>/<machine>/config, and <lab>/.snapshots/<name>/<machine>/config
    grep = ["-exec", "grep", "-h", "^lxc.rootfs.path", "{}", "+"]
    argv = ["find", str(paths.HOST), "-maxdepth", "5", "-name", "config", "-type", "f", *grep]
    return run("reading the configurations of machines", argv, ok=(0, 1)).stdout.splitlines()
