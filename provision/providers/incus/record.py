"""The record of a lab on Incus: its server, its member of the cluster, and pinned host keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from provision.core.lab import Lab
from provision.engine.agent.codec import decode
from provision.providers.files import load_record, save_record
from provision.providers.incus import remote
from provision.providers.incus.remote import Remote

FILE = "incus.json"


@dataclass(frozen=True)
class LabRecord:
    """Where a lab is.

    Args:
        member: of the cluster, which all its machines are on; empty without a cluster.
        via: the address of the server or member, over which this computer reaches the machines;
            empty when their bridge is on this computer.
        host_keys: ``ssh-ed25519 AAAA…``, by machine.
    """

    remote: Remote
    member: str = ""
    via: str = ""
    host_keys: Mapping[str, str] = field(default_factory=dict)


def load(lab: Lab) -> LabRecord | None:
    """The record; None when the lab has none.

    Raises:
        LabError: when it is damaged.
    """
    return load_record(lab, FILE, lambda data: decode(LabRecord, data), None)


def save(lab: Lab, value: LabRecord) -> None:
    """Write it atomically."""
    save_record(lab, FILE, value)


def remove(lab: Lab) -> None:
    """Remove it. Idempotent."""
    (lab.directory / FILE).unlink(missing_ok=True)


def remote_of(lab: Lab) -> Remote:
    """The server that a lab is on; for a new lab, the one that the environment asks for.

    Raises:
        LabError: when the record is damaged, or the environment names no usable server.
    """
    existing = load(lab)
    return existing.remote if existing else remote.requested()
