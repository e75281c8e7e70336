"""Separate cores for a lab and for the clients that load it.

Clients that share cores with a site slow it down: more arrivals then show less of what the site can
serve, whatever it does with them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from provision.operations.session import Session
from provision.providers.lxc.container import CGROUPS
from provision.providers.lxc.paths import LabPaths


@contextlib.contextmanager
def separate_cores(session: Session) -> Iterator[bool]:
    """Run the lab's machines on one half of the cores, this process on the other (cpuset(7)).

    Yields False, and changes nothing, on one core, or for machines that are no containers here.
    """
    cores = sorted(os.sched_getaffinity(0))
    contained = session.state.provider == "lxc"
    groups = _groups(LabPaths.of(session.lab).lab_cgroup) if contained else []
    if len(cores) < 2 or not groups:
        yield False
        return
    half = len(cores) // 2
    before = {path: path.read_text() for path in groups}
    try:
        for path in groups:
            path.write_text(",".join(map(str, cores[:half])))
        os.sched_setaffinity(0, cores[half:])
        yield True
    finally:
        os.sched_setaffinity(0, cores)
        for path, value in before.items():
            with contextlib.suppress(OSError):  # its machine was killed
                path.write_text(value)


def _groups(name: str) -> list[Path]:
    """The files that hold the cores of the lab's machines, in cgroup v1 or v2."""
    return [
        *CGROUPS.glob(f"cpuset/{name}/*/cpuset.cpus"),
        *CGROUPS.glob(f"{name}/*/cpuset.cpus"),
    ]
