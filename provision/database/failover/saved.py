"""Errant transactions that machines saved before they rejoined by themselves: move them here."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from provision.core.waiting import timeout_factor, wait_until
from provision.database import saved_transactions
from provision.database.agent.errant_files import errant_files_probe
from provision.database.failover import feature
from provision.database.failover.agent.rejoin_trigger import UNIT
from provision.engine import stream
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host

REJOIN_SECONDS = 60.0
"""How long a rejoin that is under way may take before a command continues without it."""


def collect(context: Context, fleet: Fleet) -> tuple[str, ...]:
    """Move saved errant transactions from the machines into the lab's folder; one line for each.

    Raises:
        LabError: when a file cannot be copied; then it stays on its machine.
    """
    if not feature.enabled(context):
        return ()
    folder = saved_transactions.folder(context)
    names = [m.name for m in context.lab.with_role("mysql") if m.name in fleet.hosts]
    moved = fleet.each(lambda host: _move(host, folder), names)
    if any(moved.values()):
        saved_transactions.keep_newest_files(context, partial(fleet.report, "host"))
    return tuple(
        f"{name}: it rejoined by itself; the transactions that only it had are in {path}"
        for name, paths in moved.items()
        for path in paths
    )


def _move(host: Host, folder: Path) -> tuple[Path, ...]:
    """The files of one machine, after a rejoin that is under way."""
    probe = errant_files_probe()
    paths = host.gather([probe])[probe].paths
    state = ["systemctl", "show", "--property=ActiveState", "--value", UNIT]
    if host.run(*state).stdout.strip() == "activating":
        wait_until(
            lambda: host.run(*state).stdout.strip() != "activating",
            REJOIN_SECONDS * timeout_factor(),
            f"{UNIT} on {host.name}",
        )
        paths = host.gather([probe])[probe].paths
    moved = []
    for path in paths:
        copy = folder / path.rpartition("/")[2]
        stream.fetch(host, stream.pipeline(["cat", path]), copy)
        host.run("rm", "--", path)
        moved.append(copy)
    return tuple(moved)
