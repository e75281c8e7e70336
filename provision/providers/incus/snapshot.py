"""Snapshots of instances by Incus."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from provision.core.errors import LabError, ProviderError
from provision.core.lab import Lab
from provision.core.parallel import for_each
from provision.core.report import Report
from provision.core.stored_machine import StoredMachine, StoredMachines
from provision.providers import snapshot_names
from provision.providers.incus import instance, names
from provision.providers.incus.client import IncusClient, IncusError


def take(
    client: IncusClient, lab: Lab, name: str, rows: Mapping[str, Any], report: Report
) -> StoredMachines:
    """Take a snapshot of all machines, which are frozen meanwhile.

    Args:
        rows: `instance.instances`.

    Raises:
        ProviderError: when a machine is absent, or Incus refuses it; nothing is left behind then.
    """
    machines = [m.name for m in lab.machines]
    missing = [n for n in machines if n not in rows]
    if missing:
        raise ProviderError(f"{', '.join(missing)} of lab {lab.name} are absent", "invoke lab.up")
    snapshot_names.check_new(name, of_any(client, lab, machines))
    running = [n for n in machines if rows[n]["status"] != instance.STOPPED]

    def change(action: str) -> None:
        for_each(running, lambda n: instance.change_state(client, lab, n, action))

    report("host", f"taking snapshot {name}")
    change("unfreeze")  # what a killed command has left
    started = time.monotonic()
    try:
        try:
            change("freeze")
            for_each(machines, lambda n: create(client, lab, n, name))
        finally:
            change("unfreeze")
    except BaseException:
        with contextlib.suppress(LabError):
            for_each(machines, lambda n: delete(client, lab, n, name))
        raise
    paused = time.monotonic() - started if running else 0.0
    prints = for_each(machines, lambda n: created_at(client, lab, n, name))
    return StoredMachines(
        {n: StoredMachine(n in running, prints[n]) for n in machines}, paused=paused
    )


def verify(client: IncusClient, lab: Lab, name: str, machines: Mapping[str, StoredMachine]) -> None:
    """Check that every machine still has its part of a snapshot.

    Raises:
        ProviderError: naming those that do not.
    """
    prints = for_each(machines, lambda n: created_at(client, lab, n, name))
    lost = [n for n, stored in machines.items() if prints[n] != stored.fingerprint]
    if lost:
        raise ProviderError(
            f"Incus has no snapshot {name} of {', '.join(lost)}, which may have been created "
            "again since; nothing was changed",
            f"invoke lab.snapshot {name} --delete",
        )


def create(client: IncusClient, lab: Lab, machine: str, name: str) -> None:
    """Take a snapshot of one instance's disk and configuration."""
    path = names.instance_path(lab, machine)
    client.post(f"{path}/snapshots", {"name": name, "stateful": False})


def restore(client: IncusClient, lab: Lab, machine: str, name: str) -> None:
    """Replace the disk and the configuration of a stopped instance by a snapshot's."""
    client.put(names.instance_path(lab, machine), {"restore": name})


def delete(client: IncusClient, lab: Lab, machine: str, name: str) -> None:
    """Delete one instance's snapshot. Idempotent."""
    client.delete(_path(lab, machine, name))


def created_at(client: IncusClient, lab: Lab, machine: str, name: str) -> str:
    """When an instance's snapshot was taken; empty when there is none."""
    try:
        return str(client.get(_path(lab, machine, name))["created_at"])
    except IncusError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise
        return ""


def of_any(client: IncusClient, lab: Lab, machines: Sequence[str]) -> set[str]:
    """The names of the snapshots of any of these instances."""
    return set().union(*_by_machine(client, lab, machines))


def of_all(client: IncusClient, lab: Lab, machines: Sequence[str]) -> set[str]:
    """The names of the snapshots that all of these instances have."""
    every = _by_machine(client, lab, machines)
    return set.intersection(*every) if every else set()


def _by_machine(client: IncusClient, lab: Lab, machines: Sequence[str]) -> list[set[str]]:
    def names_of(machine: str) -> set[str]:
        rows = client.get(f"{names.instance_path(lab, machine)}/snapshots", recursion="1")
        return {row["name"].rpartition("/")[2] for row in rows}

    return list(for_each(machines, names_of).values())


def _path(lab: Lab, machine: str, name: str) -> str:
    return f"{names.instance_path(lab, machine)}/snapshots/{quote(name)}"
