"""Helpers for the files of providers: tar archives, and records in JSON."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from typing import Any, TypeVar

from provision.core.atomic import write_atomically
from provision.core.errors import LabError
from provision.core.lab import Lab
from provision.engine.agent.codec import encode

R = TypeVar("R")


def add_file(
    tar: tarfile.TarFile, name: str, content: str | bytes, mode: int = 0o644, owner: int = 0
) -> None:
    """Add a file with a fixed mode and owner (uid and gid) to an archive."""
    data = content.encode() if isinstance(content, str) else content
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.uid, info.gid = len(data), mode, owner, owner
    tar.addfile(info, io.BytesIO(data))


def add_folder(tar: tarfile.TarFile, name: str, mode: int = 0o755, owner: int = 0) -> None:
    """Add an empty folder to an archive."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, mode, owner, owner
    tar.addfile(info)


def load_record(lab: Lab, file: str, decode: Callable[[Any], R], default: R) -> R:
    """What a provider has recorded in a file of the lab's directory; the default if nothing.

    Raises:
        LabError: when the file is damaged.
    """
    path = lab.directory / file
    try:
        return decode(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return default
    except (OSError, ValueError) as error:  # includes ProtocolError
        raise LabError(
            f"{path} is damaged ({error})", f"rm {path}; invoke lab.up records the machines again"
        ) from None


def save_record(lab: Lab, file: str, record: Any) -> None:
    """Write a record of dataclasses, mappings and sequences atomically."""
    write_atomically(lab.directory / file, json.dumps(encode(record), indent=2) + "\n")
