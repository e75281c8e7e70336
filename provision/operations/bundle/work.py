"""The parts of a bundle while it is created: complete ones are kept, so that a create continues."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from provision.core.report import Report


@dataclass
class Work:
    """The folder of parts, each named by what it is made from.

    Args:
        used: the parts of the bundle that is being created.
    """

    folder: Path
    report: Report
    used: set[Path] = field(default_factory=set)

    def part(self, name: str, inputs: object, what: str, make: Callable[[Path], None]) -> Path:
        """A file or folder that is made once.

        Args:
            name: the start of its name, with the suffix of a file after a dot.
            inputs: what its content depends on, as JSON values.
            what: for messages, such as ``wheels for Python 3.13``.
            make: writes it to a path that does not exist; the part exists when this has ended.
        """
        digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
        stem, dot, suffix = name.partition(".")
        path = self.folder / f"{stem}-{digest}{dot}{suffix}"
        self.used.add(path)
        if not path.exists():
            self.report("host", what)
            temporary = path.with_name(f".new.{path.name}")
            remove(temporary)
            temporary.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                make(temporary)
                temporary.replace(path)
            except BaseException:
                remove(temporary)  # it may be what has filled the disk
                raise
        self.report("host", f"{what}: {size_of(path) / 2**20:.1f} MiB")
        return path

    def remove_unused(self) -> None:
        """Remove the parts of former bundles, and the remains of interrupted calls."""
        for path in sorted(self.folder.iterdir()):
            if path not in self.used:
                remove(path)


def remove(path: Path) -> None:
    """Remove a file or folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
