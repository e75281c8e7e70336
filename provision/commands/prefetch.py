"""`lab.prefetch`: download everything that labs need, for rooms without a network."""

from __future__ import annotations

import sys
from typing import Any

from provision.commands.base import lab_name, publish, task
from provision.commands.doctor import offline_values, show_offline
from provision.commands.progress import Progress
from provision.commands.results import lab as results
from provision.core.errors import UsageError
from provision.core.lab import ROOT
from provision.operations import offline

MIB = 2**20


@task(
    result=results.Prefetched,
    help={
        "topology": "a name from configs/topologies, or all (default: the lab's)",
        "refresh": "read Debian's package lists again (default: keep the recorded versions)",
    },
)
def prefetch(c: Any, lab: str = "", topology: str = "", refresh: bool = False) -> None:
    """Download what labs need without a network.

    Machines of every provider take packages from the pool that this fills. Provider lxc builds its
    images and layers, too.
    """
    if sys.platform != "linux":
        raise UsageError(
            "lab.prefetch resolves packages in containers, which require Linux",
            "invoke lab.up records what it downloads; or use a bundle: scripts/up --bundle FILE",
        )
    names = offline.chosen(topology, lab_name(lab), ROOT)
    with Progress() as report:
        offline.prefetch(names, ROOT, report, refresh=refresh)
    rows = [row for row in offline.topologies(ROOT) if row.topology in names]
    values, size = offline_values(rows), offline.pool_size()
    if not publish(results.Prefetched(offline=values, size_bytes=size)):
        show_offline(values, lab_name(lab))
        print(f"{size / MIB:.0f} MiB in the package pool")
