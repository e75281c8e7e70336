"""lab-autopromote.service on the balancer: the witness.

It receives the reports of the guards, probes the primary's database itself, and writes every
decision to disk before it sends it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

from provision.database.agent.role_store import sync_folder
from provision.database.failover.agent import wire
from provision.database.failover.agent.daemon import CRITICAL, INFO, WARNING, ChangeLog, boottime
from provision.database.failover.agent.rules import (
    DECISION_FILE,
    FAILED_PROBES,
    PROBE_INTERVAL,
    PROBE_TIMEOUT,
    Decision,
    GuardReport,
    from_json,
    to_json,
)
from provision.database.failover.agent.witness_rules import Witness

CONFIG = "/etc/foobar-lab/autopromote.json"
"""``address``, ``secret`` and ``databases`` (name to address)."""


def load_decision(path: str = DECISION_FILE) -> Decision:
    """The decision on disk; without one, serials start at the time of day."""
    try:
        with open(path) as file:
            return from_json(Decision, json.load(file))
    except FileNotFoundError:
        return Decision(serial=int(time.time()))


def save_decision(decision: Decision, path: str = DECISION_FILE) -> None:
    """Write the decision; when this returns, it survives a power loss."""
    with open(f"{path}.new", "w") as file:
        json.dump(to_json(decision), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.new", path)
    sync_folder(os.path.dirname(path))


class WitnessDaemon:
    """The witness with its disk, its probes and its journal."""

    def __init__(self, config: dict[str, Any], path: str = DECISION_FILE) -> None:
        self.config, self.path = config, path
        self.witness = Witness(load_decision(path), boottime())
        self.mutex = threading.Lock()
        self.saved = self.witness.decision
        self.failed_probes = 0
        self.probed_address = ""
        self.log = ChangeLog()

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Respond to a guard's report."""
        report = from_json(GuardReport, request)
        if report.machine not in self.config["databases"]:
            return {}
        with self.mutex:
            decision, granted = self.witness.receive(report, boottime())
            if self.failed_probes >= FAILED_PROBES and report.machine != decision.primary:
                # The response is the order, as soon as no rule objects.
                self.witness.consider_failover(self.failed_probes, boottime())
                decision = self.witness.decision
            self.save()
            return {"decision": to_json(decision), "granted": granted}

    def save(self) -> None:
        """Write the decision to disk if it changed; a failure ends the process."""
        decision, previous = self.witness.decision, self.saved
        if decision == previous:
            return
        try:
            save_decision(decision, self.path)
        except OSError as error:
            print(f"<2>{self.path} cannot be written: {error}", flush=True)
            os._exit(1)
        self.saved = decision
        self._log_change(previous, decision)

    def _log_change(self, before: Decision, after: Decision) -> None:
        text, level = "", INFO
        if after.epoch != before.epoch:
            text = f"{after.primary} is primary since epoch {after.epoch}"
        elif after.order and not before.order:
            text, level = f"{after.primary} is dead: ordering the replica to take over", CRITICAL
        elif before.order and not after.order:
            text, level = f"the replica refused to take over from {after.primary}", WARNING
        elif bool(after.promotable) != bool(before.promotable):
            state = "is promotable" if after.promotable else "is not promotable"
            text = f"the replica of {after.primary} {state}"
        if text:
            self.log("", text, level)

    def probe_primary(self) -> None:
        """Probe the primary's database and order the failover when no rule objects."""
        address = self.config["databases"].get(self.witness.decision.primary)
        if address is None:
            return
        if address != self.probed_address:
            with self.mutex:
                self.probed_address, self.failed_probes = address, 0
        responds = wire.mysql_responds(address, timeout=PROBE_TIMEOUT)
        with self.mutex:
            self.failed_probes = 0 if responds else self.failed_probes + 1
            objection = self.witness.consider_failover(self.failed_probes, boottime())
            self.save()
        if self.failed_probes >= FAILED_PROBES and objection:
            primary = self.witness.decision.primary
            self.log("", f"{primary} does not respond; no failover: {objection}", WARNING)


def main() -> int:
    """Run until stopped."""
    with open(CONFIG) as file:
        config = json.load(file)
    daemon = WitnessDaemon(config)
    wire.serve(config["address"], config["secret"], daemon.handle)
    while True:
        daemon.probe_primary()
        time.sleep(PROBE_INTERVAL)


if __name__ == "__main__":
    sys.exit(main())
