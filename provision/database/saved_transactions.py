"""The lab's folder of errant transactions that were saved before their server was rebuilt."""

from __future__ import annotations

from pathlib import Path

from provision.core.growth import ERRANT_BYTES, ERRANT_KEPT
from provision.core.report import Log
from provision.core.retention import keep_newest
from provision.database.agent.errant_files import SUFFIX
from provision.engine.context import Context


def folder(context: Context) -> Path:
    """``.lab/<lab>/errant``, with one file per rejoin: ``<machine>-<time>.sql.gz``."""
    return context.lab.directory / "errant"


def keep_newest_files(context: Context, log: Log) -> None:
    """Remove the oldest files beyond the bound, and log each."""
    for path in keep_newest(folder(context).glob(f"*{SUFFIX}"), ERRANT_KEPT, ERRANT_BYTES):
        log(f"removed {path.name}: the newest {ERRANT_KEPT} such files are kept")
