"""Who may write when nobody is there to say so: the rules of db.autopromote, as pure functions.

Three parties: the supervisor on the balancer, the primary and the replica. Two of them together may
do anything, one alone nothing. The clock is CLOCK_BOOTTIME, which goes on while a machine sleeps.

**Never two writable servers.** The primary takes writes while it holds a lease: within the last
`LEASE` seconds the supervisor or the replica has answered it "you are the primary" (a *grant*,
counted from when the primary asked, so before it was given). Without one its guard sets
super_read_only, and kills mysqld when that cannot be done within `FENCE` (commits that wait for
an acknowledgement hold the lock; MySQL starts read-only). A promotion takes both others. The
supervisor gives the *order*, durably, when its last grant is older than `LEASE + MARGIN`, and from
then on grants nothing. The replica accepts it when its own last grant is as old, and from then on
grants nothing. So whoever accepts knows that no lease is left. The order is taken back only when
the replica says that it refused it, and it never accepts an order that it has refused.

**Nothing acknowledged is lost.** The replica is *promotable* or not; that word is the supervisor's,
and is on its disk before anybody hears it. While it is promotable, the primary commits *strictly*:
semi-sync with an unlimited time-out and rpl_semi_sync_source_wait_no_replica, so that whatever was
acknowledged is on the replica. A primary that was stopped and wakes up after a promotion can take a
write for the moment until its guard runs, and nobody acknowledges it. When the replica is lost, the
supervisor first records it as not promotable, then the primary may commit alone. Back again in this
order: the primary commits strictly, and gives up its permission by number (`Report.revoked`); sees
that the replica has everything that was committed before; claims it; the supervisor records it.
The permission has a number and is for one process, so that no late message brings it to life again.
A replica whose mysqld restarted or whose relay logs were discarded has another identity
(`Report.server`), and another identity is not promotable.

**A cut network is not death.** When either of the two others sees the primary, nothing happens. A
primary that is cut off from both is fenced before the other one is promoted. Cut off from one, it
goes on. All three apart: nobody writes.

What it does not cover: a guard that systemd cannot keep running on a primary that is cut off at
the same time (acknowledged writes are still safe, two servers can be writable); a supervisor's disk
that is lost together with a partition; clocks whose speeds differ by more than MARGIN in LEASE.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

LEASE = 3.0
"""Seconds that a grant lasts."""

MARGIN = 2.0
"""Seconds for noticing that it ended, and for the fence."""

FENCE = 0.5
"""Seconds that super_read_only may wait for running commits; then mysqld is killed."""

OUT = 2.0
"""Seconds without its replica after which a primary may ask to go on alone."""

FRESH = 1.5
"""Seconds that a report counts as news."""

PROBES = 3
"""Failed probes in a row after which the primary does not answer the balancer."""


@dataclass(frozen=True)
class Word:
    """What the supervisor has decided; on its disk before anybody hears it.

    Args:
        serial: grows with every change.
        epoch: of the last promotion.
        primary: who was promoted then.
        instance: the guard on the primary that the word is for.
        promotable: the identity of the replica that has all that was acknowledged; empty: none.
        order: the identity of the replica that shall be promoted; empty: no order.
    """

    serial: int = 0
    epoch: int = 0
    primary: str = ""
    instance: str = ""
    promotable: str = ""
    order: str = ""


@dataclass(frozen=True)
class Report:
    """What a guard says to the supervisor and to the other guard.

    Args:
        machine: whose guard it is.
        instance: a name of the guard's process, new at every start.
        epoch: in the machine's record.
        primary: in the machine's record.
        up: whether mysqld answers.
        server: identity of mysqld and its relay logs; empty when it does not answer.
        have: the transactions that it has, as a GTID set.
        missing: seconds since the primary last saw its replica follow.
        revoked: the highest serial whose permission to commit alone was given up.
        claim: the identity of the replica that has everything; empty: not known.
        unheard: seconds since the replica last had any sign of life from the primary.
        receiving: whether the replica's receiving thread is connected.
        refused: the highest serial whose order was refused.
    """

    machine: str = ""
    instance: str = ""
    epoch: int = 0
    primary: str = ""
    up: bool = False
    server: str = ""
    have: str = ""
    missing: float = 0.0
    revoked: int = 0
    claim: str = ""
    unheard: float = 0.0
    receiving: bool = False
    refused: int = 0


def values(what: Word | Report) -> dict[str, Any]:
    """As plain values, for a file or the wire."""
    return asdict(what)


def word(data: Mapping[str, Any]) -> Word:
    """A Word out of plain values; what is not known is left out."""
    return Word(**{f.name: data[f.name] for f in fields(Word) if f.name in data})


def report(data: Mapping[str, Any]) -> Report:
    """A Report out of plain values."""
    return Report(**{f.name: data[f.name] for f in fields(Report) if f.name in data})


class Supervisor:
    """The third party.

    Args:
        known: what was on its disk.
        now: the clock. Before it started it may have granted anything until then.
    """

    def __init__(self, known: Word, now: float) -> None:
        self.word = known
        self.granted = now
        self.replica: tuple[Report, float] | None = None

    def hear(self, said: Report, now: float) -> tuple[Word, bool]:
        """Take a report.

        Returns:
            The word as it is now, to be written down before it is sent; and whether the sender is
            granted a lease.
        """
        known = self.word
        if said.primary == said.machine and said.epoch > known.epoch:
            # Promoted by our order, or by an operator; what it replaced is not promotable.
            self.word = Word(known.serial + 1, said.epoch, said.machine, said.instance)
            self.replica = None
        if said.epoch != self.word.epoch or said.primary != self.word.primary:
            return self.word, False
        if said.machine == self.word.primary:
            return self._primary(said, now)
        self.replica = (said, now)
        if self.word.order:
            if said.refused >= self.word.serial:
                self.word = replace(self.word, serial=self.word.serial + 1, order="")
        elif self.word.promotable and said.server != self.word.promotable:
            self.word = replace(self.word, serial=self.word.serial + 1, promotable="")
        return self.word, False

    def _primary(self, said: Report, now: float) -> tuple[Word, bool]:
        known = self.word
        if known.order or not said.up:
            return known, False
        self.granted = now
        nobody = not known.promotable
        if said.instance != known.instance:
            self.word = replace(known, serial=known.serial + 1, instance=said.instance)
        elif said.missing > OUT and (not nobody or said.revoked >= known.serial):
            self.word = replace(known, serial=known.serial + 1, promotable="")
        elif nobody and said.claim and said.revoked == known.serial:
            self.word = replace(known, serial=known.serial + 1, promotable=said.claim)
        return self.word, True

    def objection(self, failed: int, now: float) -> str:
        """Why the replica is not promoted now; empty when it is to be.

        Args:
            failed: probes of the primary's database that failed in a row.
            now: the clock.
        """
        known = self.word
        if not known.primary:
            return "no primary is known yet"
        if known.order:
            return "the replica has the order, and has not said what became of it"
        if failed < PROBES:
            return "the primary's database answers"
        if now - self.granted <= LEASE + MARGIN:
            return "the primary may still hold a lease from here"
        if self.replica is None or now - self.replica[1] > FRESH:
            return "no replica reports, so nobody can tell a dead primary from a cut network"
        said, when = self.replica
        if said.receiving or said.unheard + (now - when) <= LEASE + MARGIN:
            return "the replica sees the primary, so only the network to it is cut here"
        if not known.promotable:
            return "the replica is not promotable: it may lack acknowledged writes"
        if said.server != known.promotable:
            return "the replica's database is not the one that had everything"
        return ""

    def consider(self, failed: int, now: float) -> str:
        """Give the order when nothing speaks against it; returns what does."""
        why = self.objection(failed, now)
        if not why:
            known = self.word
            self.word = replace(known, serial=known.serial + 1, order=known.promotable)
        return why


class Guard:
    """What the daemon on a database machine knows, and what follows from it.

    Args:
        machine: its name.
        instance: of this process.
        now: the clock. Another process may have granted a lease until now.
        armed: whether the supervisor has ever been heard on this machine since it booted; before
            that nobody can have been promoted, and a lab that is being set up is left alone.
    """

    def __init__(self, machine: str, instance: str, now: float, armed: bool) -> None:
        self.machine, self.instance, self.armed = machine, instance, armed
        self.word = Word()
        self.lease = float("-inf")
        self.heard = now
        self.granted = now
        self.revoked = 0
        self.refused = 0
        self.accepting = 0

    def told(self, heard: Word, granted: bool, sent: float) -> None:
        """Take the supervisor's answer to what was asked at ``sent``."""
        self.word = heard
        self.armed = True
        if granted:
            self.lease = max(self.lease, sent + LEASE)

    def peer_granted(self, sent: float) -> None:
        """Take the replica's grant for what was asked at ``sent``."""
        self.lease = max(self.lease, sent + LEASE)

    def answer(self, said: Report, epoch: int, primary: str, now: float) -> bool:
        """Whether the other guard is granted a lease: as the primary of this machine's own record.

        Args:
            said: by the other guard.
            epoch: in the machine's record.
            primary: in the machine's record.
            now: the clock.
        """
        leads = said.machine == said.primary == primary and said.epoch == epoch and said.up
        if not leads or primary == self.machine or self.accepting:
            return False
        self.granted = self.heard = now
        return True

    def leased(self, now: float) -> bool:
        """Whether the lease is good."""
        return now < self.lease

    def alone(self, epoch: int) -> bool:
        """Whether the primary may commit without its replica."""
        known = self.word
        mine = known.primary == self.machine and known.epoch == epoch
        permitted = known.instance == self.instance and known.serial > self.revoked
        return mine and permitted and not known.promotable

    def revoke(self) -> None:
        """Give up the permission to commit alone; to be called when commits are strict again."""
        self.revoked = max(self.revoked, self.word.serial)

    def ordered(self, epoch: int, primary: str) -> int:
        """The serial of an order that is to be answered; 0 when there is none."""
        known = self.word
        fits = known.order and known.epoch == epoch and known.primary == primary
        if not fits or primary == self.machine or known.serial <= max(self.refused, self.accepting):
            return 0
        return known.serial

    def accept(self, serial: int, server: str, receiving: bool, now: float) -> str:
        """Promise to grant nothing any more, if the order can be carried out; returns why not."""
        why = ""
        if server != self.word.order:
            why = "the order is for another state of this database"
        elif receiving:
            why = "the primary's database is connected"
        elif now - max(self.granted, self.heard) <= LEASE + MARGIN:
            why = "the primary was seen here a moment ago"
        if why:
            self.refuse(serial)
        else:
            self.accepting = serial
        return why

    def refuse(self, serial: int) -> None:
        """Never carry out that order; take the promise back."""
        self.refused = max(self.refused, serial)
        self.accepting = 0
