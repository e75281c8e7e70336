"""Files of errant transactions that a machine has saved before it rejoined by itself."""

from __future__ import annotations

import os
from dataclasses import dataclass

from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, collector

FOLDER = "/var/lib/foobar-lab/errant"
"""On a database machine; lab.up moves the files to the controller."""

SUFFIX = ".sql.gz"


@dataclass(frozen=True)
class ErrantFiles:
    """The paths, oldest first."""

    paths: tuple[str, ...] = ()


def errant_files(folder: str = FOLDER) -> tuple[str, ...]:
    """The complete files in a folder; none without it."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return ()
    return tuple(f"{folder}/{name}" for name in names if name.endswith(SUFFIX))


def errant_files_probe() -> Probe[ErrantFiles]:
    """The files of a machine."""
    return Probe("errant-files", "saved errant transactions", {"folder": FOLDER}, ErrantFiles)


@collector("errant-files")
def collect_errant_files(args: Args) -> ErrantFiles:
    """See `errant_files_probe`."""
    return ErrantFiles(errant_files(args["folder"]))
