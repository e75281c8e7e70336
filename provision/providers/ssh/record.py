"""The record of existing machines: how ``lab.up`` reached them, and their pinned host keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from provision.core.endpoint import Endpoint
from provision.core.lab import Lab
from provision.engine.agent.codec import decode
from provision.providers.files import load_record, save_record
from provision.providers.routes import is_directly_connected, source_address

FILE = "existing.json"


@dataclass(frozen=True)
class ExistingMachines:
    """What ``lab.up`` recorded.

    Args:
        machines: endpoints by machine name.
        direct: addresses that were directly connected to this host. When one no longer is, packets
            would go to another machine that has the same private address.
    """

    machines: Mapping[str, Endpoint] = field(default_factory=dict)
    direct: tuple[str, ...] = ()


def load(lab: Lab) -> ExistingMachines:
    """What is recorded; empty before the first ``lab.up``.

    Raises:
        LabError: when the file is damaged.
    """
    return load_record(lab, FILE, lambda data: decode(ExistingMachines, data), ExistingMachines())


def save(lab: Lab, record: ExistingMachines) -> None:
    """Write the record atomically."""
    save_record(lab, FILE, record)


def lost_routes(
    record: ExistingMachines, route: Callable[[str], IPv4Address | None] = source_address
) -> tuple[str, ...]:
    """Why recorded addresses are no longer directly connected, one line per address."""
    lines = []
    for address in record.direct:
        source = route(address)
        if not is_directly_connected(address, source):
            current = f"is now reached from {source}" if source else "now has no route"
            lines.append(f"{address} was directly connected to this host, and {current}")
    return tuple(lines)
