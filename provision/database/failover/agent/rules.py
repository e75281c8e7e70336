"""The rules of automatic failover: why it never loses acknowledged writes and never splits brain.

Three parties vote: the *witness* on the balancer, and one *guard* on each of the two database
machines, the primary and the replica. Every step that matters needs two of the three. All times are
CLOCK_BOOTTIME, which continues while a machine is suspended. `Witness` (witness_rules.py) and
`Guard` (guard_rules.py) are pure state machines; witness.py and guard.py run them.

**At most one server is writable.**

- The primary is writable only while it holds a *lease*. A lease is a grant by the witness or by the
  replica's guard and lasts `LEASE` seconds from the moment when the primary *sent* the request, so
  it has ended for the primary when `LEASE` seconds have passed for the grantor.
- Without a lease the primary's guard *fences* its server: it sets super_read_only. That statement
  waits for running commits, which may themselves wait for an acknowledgement; `FENCE_TIMEOUT`
  seconds after the fencing began the guard kills mysqld instead, which starts read-only. A thread
  of its own watches the lease (fence.py), so that nothing else that waits for mysqld delays it:
  `FENCE_INTERVAL`, `FENCE_TIMEOUT` and the kill fit into `MARGIN`.
- A failover takes both other parties. The witness orders it, on disk before it is sent, only when
  its own last grant is older than `LEASE + MARGIN`; from then on it grants nothing. The replica's
  guard accepts the order only when its own last grant is older than `LEASE + MARGIN`; from then on
  it grants nothing. So when an order is accepted, no lease can be valid, and none will be granted.
- The witness withdraws an order only after the guard has reported that it refused it. A guard never
  accepts an order that it has refused.

**No acknowledged write is lost.**

- Whether the replica is *promotable* is the witness's decision, on disk before it is sent. While
  the replica is promotable, the primary commits *strictly*: semi-sync with an unlimited timeout and
  rpl_semi_sync_source_wait_no_replica, so that every acknowledged transaction is on the replica.
- When the replica is lost, the witness first records that it is not promotable; only then may the
  primary commit alone.
- When the replica is back, in this order: the primary commits strictly again and revokes its
  permission to commit alone, by serial number (`GuardReport.revoked`); it waits until the replica
  has everything that was committed before that; it reports the replica as synced; the witness
  records it as promotable. The permission has a serial number and belongs to one process of the
  guard, so a delayed message cannot restore it.
- A replica whose mysqld restarted or whose relay log was discarded has a new identity
  (`GuardReport.identity`), and a new identity is not promotable.
- A primary that was suspended and resumes after a failover can receive a write before its guard
  runs, but no replica acknowledges it, so the client is never told that it was committed.

**The old primary rejoins by itself.** It is not writable, the witness has decided on the other
machine, and the other guard reports itself as primary in that epoch (`Guard.must_rejoin`). Its
transactions that the new primary lacks were never acknowledged: they are saved to a file, and
then it clones the new primary (rejoin.py). Its mysqld restarts, or its relay log is discarded, so
it has a new identity and is promotable only after it has caught up.

**A network partition is not a failure of the primary.** While the witness or the replica can reach
the primary, there is no failover. A primary that is partitioned from both is fenced before the
replica is promoted. A primary that is partitioned from one of them continues. When all three are
partitioned from each other, no server is writable.

**Not covered:** a guard that systemd cannot keep running on a primary that is partitioned at the
same time (two servers can be writable; acknowledged writes are still safe); the loss of the
witness's disk during a partition; clocks whose rates differ by more than `MARGIN` in `LEASE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

LEASE = 2.5
"""Seconds that a grant lasts: several reports, so that one that is lost ends no lease."""

MARGIN = 1.2
"""Seconds for the guard to notice that its lease ended, and to fence."""

FENCE_INTERVAL = 0.05
"""Seconds between two looks at the lease."""

FENCE_TIMEOUT = 0.5
"""Seconds that all of fencing may take, running commits included; then mysqld is killed."""

RECEIVER_TIMEOUT = 2.0
"""Seconds without a sign of life of the primary after which the replica's guard stops the receiver
thread, which would notice a dead machine late, and then connect to it for seconds."""

REPLICA_TIMEOUT = 2.0
"""Seconds without its replica after which a primary asks to commit alone."""

REPORT_LIFETIME = 1.5
"""Seconds that a report is current."""

REPORT_INTERVAL = 0.4
"""Seconds between two reports of a guard."""

URGENT_INTERVAL = 0.1
"""The same to the witness while the primary is silent: its response may be the order."""

PROBE_INTERVAL = 0.4
"""Seconds between two probes of the primary's database by the witness."""

PROBE_TIMEOUT = 0.6
"""Seconds after which such a probe has failed."""

FAILED_PROBES = 3
"""Failed probes in a row after which the witness considers the primary unreachable."""

DECISION_FILE = "/var/lib/foobar-lab/autopromote-word.json"
"""On the witness's machine: a `Decision` as JSON."""


@dataclass(frozen=True)
class Decision:
    """What the witness has decided; on its disk before it is sent.

    Args:
        serial: increases with every change.
        epoch: of the last promotion.
        primary: the machine that was promoted in that epoch.
        instance: the process of the primary's guard that this decision is for.
        promotable: identity of the replica that has every acknowledged write; empty: none.
        order: identity of the replica that is ordered to become primary; empty: no order.
    """

    serial: int = 0
    epoch: int = 0
    primary: str = ""
    instance: str = ""
    promotable: str = ""
    order: str = ""


@dataclass(frozen=True)
class GuardReport:
    """What a guard reports to the witness and to the other guard.

    Args:
        machine: the guard's machine.
        instance: names the guard's process; new at every start.
        epoch: in the machine's record.
        primary: in the machine's record.
        up: whether mysqld responds.
        identity: of mysqld and its relay log; empty when mysqld does not respond.
        gtids: executed and received transactions, as a GTID set.
        replica_missing: on a primary, seconds since its replica was last seen replicating.
        revoked: highest serial whose permission to commit alone was revoked.
        synced: on a primary, identity of the replica that has everything; empty: unknown.
        primary_silent: on a replica, seconds since the last sign of life of the primary.
        receiving: on a replica, whether the receiver thread is connected.
        refused: highest serial whose order was refused.
    """

    machine: str = ""
    instance: str = ""
    epoch: int = 0
    primary: str = ""
    up: bool = False
    identity: str = ""
    gtids: str = ""
    replica_missing: float = 0.0
    revoked: int = 0
    synced: str = ""
    primary_silent: float = 0.0
    receiving: bool = False
    refused: int = 0


Message = TypeVar("Message", Decision, GuardReport)


def to_json(message: Decision | GuardReport) -> dict[str, Any]:
    """As JSON, for the disk or the wire."""
    return asdict(message)


def from_json(kind: type[Message], data: Mapping[str, Any]) -> Message:
    """From JSON of this or another version: unknown keys are ignored, missing ones are defaults."""
    return kind(**{item.name: data[item.name] for item in fields(kind) if item.name in data})
