"""What is kept of existing machines between commands: how they were reached, and their pins."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from provision.core import state
from provision.core.endpoint import Endpoint
from provision.core.errors import LabError
from provision.core.lab import Lab
from provision.providers.routes import near, source_for

FILE = "existing.json"


@dataclass(frozen=True)
class Record:
    """What ``lab.up`` found.

    Args:
        endpoints: by machine name.
        direct: addresses that were in a network of this host itself: when they no longer are, a
            packet for them would go elsewhere, to somebody else who has that private address.
    """

    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    direct: tuple[str, ...] = ()


def load(lab: Lab) -> Record:
    """What is recorded; empty before the first ``lab.up``.

    Raises:
        LabError: when the file is damaged.
    """
    path = lab.directory / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Record(
            {name: _endpoint(values) for name, values in data["machines"].items()},
            tuple(map(str, data["direct"])),
        )
    except FileNotFoundError:
        return Record()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabError(
            f"{path} is damaged ({error})", f"rm {path}, then invoke lab.up finds the machines anew"
        ) from None


def save(lab: Lab, record: Record) -> None:
    """Write it down, as a whole."""
    data = {
        "machines": {
            name: {
                "address": e.address,
                "port": e.port,
                "user": e.user,
                "key": str(e.key),
                "host_key": e.host_key,
                "jump": e.jump,
                "jump_key": str(e.jump_key or ""),
                "jump_host_key": e.jump_host_key,
            }
            for name, e in record.endpoints.items()
        },
        "direct": list(record.direct),
    }
    state.write(lab.directory / FILE, json.dumps(data, indent=2) + "\n")


def lost_links(
    record: Record, look: Callable[[str], IPv4Address | None] = source_for
) -> tuple[str, ...]:
    """Why nothing may be sent to recorded addresses now, a line each.

    Args:
        record: of the lab.
        look: asks the kernel from which address it would send.
    """
    found = []
    for address in record.direct:
        source = look(address)
        if not near(address, source):
            now = f"would be sent from {source} now" if source else "has no route now"
            found.append(f"{address} was in a network of this host, and {now}")
    return tuple(found)


def _endpoint(values: Mapping[str, Any]) -> Endpoint:
    return Endpoint(
        address=str(values["address"]),
        port=int(values["port"]),
        user=str(values["user"]),
        key=Path(values["key"]),
        host_key=str(values["host_key"]),
        jump=str(values["jump"]),
        agent=True,
        jump_key=Path(values["jump_key"]) if values["jump_key"] else None,
        jump_host_key=str(values["jump_host_key"]),
    )
