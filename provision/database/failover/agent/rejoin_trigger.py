"""Starts lab-rejoin.service when the other machine has been the primary for a while."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

from provision.database.failover.agent.daemon import WARNING, ChangeLog
from provision.database.failover.agent.rules import GuardReport
from provision.engine.agent.atomic import write_atomically

UNIT = "lab-rejoin.service"

TARGET = "/run/foobar-lab/rejoin.json"
"""For the unit (rejoin.py): ``primary`` and ``epoch``."""

SETTLE_SECONDS = 2.0
"""How long the other machine must have been the primary."""

RETRY_SECONDS = 15.0
"""After a start of the unit, until it is started again."""


def start_unit(primary: str, epoch: int) -> None:
    """Start the unit and return at once; nothing happens while it runs."""
    target = json.dumps({"primary": primary, "epoch": epoch}) + "\n"
    write_atomically(TARGET, target.encode(), 0o600)
    subprocess.run(["systemctl", "start", "--no-block", UNIT], check=False, timeout=10)


class RejoinTrigger:
    """Remembers since when a rejoin is needed, and when it was started."""

    def __init__(self, log: ChangeLog, start: Callable[[str, int], None] = start_unit) -> None:
        self._log = log
        self._start = start
        self._due: float | None = None

    def update(self, needed: bool, peer: GuardReport | None, clock: float) -> None:
        """Start the unit when it is due.

        Args:
            needed: see `Guard.must_rejoin`; the peer's report is current then.
        """
        if not needed or peer is None:
            self._due = None
            return
        if self._due is None:
            self._due = clock + SETTLE_SECONDS
        if clock < self._due:
            return
        self._due = clock + RETRY_SECONDS
        text = f"{peer.primary} is primary in epoch {peer.epoch}: rejoining as its replica"
        self._log("role", text, WARNING)
        self._start(peer.primary, peer.epoch)
