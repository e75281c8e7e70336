"""Who is primary, as recorded on one machine. The controller imports it too, on any platform."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class RoleRecord:
    """Who is primary, as one machine knows it.

    Args:
        machine: the machine that holds this record.
        epoch: number of the promotion that made ``primary`` the primary.
        peers: the other database machines, name to address.
    """

    machine: str
    primary: str
    epoch: int
    peers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_primary(self) -> bool:
        """Whether this machine is recorded as primary."""
        return self.primary == self.machine

    @property
    def primary_address(self) -> str:
        """The address of the primary; only on a replica."""
        return self.peers[self.primary]

    @property
    def text(self) -> str:
        """The content of its file."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"
