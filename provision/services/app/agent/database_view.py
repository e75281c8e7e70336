"""Which database is the primary, and which one to read from: what the probes of all of them say."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

PRIMARY, REPLICA = "primary", "replica"
DETACHED = "detached"
"""Read-only, and without a source: its data gets old."""

DOWN = ""

SILENT_SECONDS = 1.5
"""A server that does not respond keeps its role for so long: it may only lack processor time."""


def role(writable: bool, replication: Sequence[tuple[str, str]]) -> str:
    """The role of a server that responds.

    Args:
        replication: Replica_IO_Running and Replica_SQL_Running of each row of SHOW REPLICA STATUS.
    """
    if writable:
        return PRIMARY
    # During a promotion the receiver is stopped while the applier completes what was received.
    running = any(states != ("No", "No") for states in replication)
    return REPLICA if running else DETACHED


@dataclass
class DatabaseView:
    """The role of each server by name.

    Args:
        reads: all servers, the preferred one for reads first.
    """

    reads: Sequence[str]
    clock: Callable[[], float] = time.monotonic
    _roles: dict[str, str] = field(default_factory=dict)
    _responded: dict[str, float] = field(default_factory=dict)

    def record(self, server: str, state: str) -> None:
        """A server responded; ``DOWN`` when it refused the connection or the login."""
        self._roles[server] = state
        self._responded[server] = self.clock()

    def record_silence(self, server: str) -> None:
        """A server did not respond in time."""
        if self.clock() - self._responded.get(server, float("-inf")) > SILENT_SECONDS:
            self._roles[server] = DOWN

    @property
    def complete(self) -> bool:
        """Whether every server was asked."""
        return set(self.reads) == set(self._roles)

    @property
    def primary(self) -> str:
        """The only writable server; empty when there is none, or more than one."""
        writable = [name for name in self.reads if self._roles.get(name) == PRIMARY]
        return writable[0] if len(writable) == 1 else ""

    @property
    def reader(self) -> str:
        """The preferred server whose data is current; empty when there is none."""
        current = (n for n in self.reads if self._roles.get(n) in (PRIMARY, REPLICA))
        return next(current, "")

    def serves(self, server: str, *, writes: bool) -> bool:
        """Whether connections to a server stay.

        Writes stay on a server that does not respond, until another one is the primary.
        """
        state = self._roles.get(server, DOWN)
        if writes:
            return server == self.primary or (not self.primary and state == DOWN)
        return state in (PRIMARY, REPLICA)
