"""Reads go to a server that answers, writes to the one primary: routing, fall-back, repetition."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from foobar import gtid
from foobar.gate import Gate, StuckError
from foobar.pool import Pool
from foobar.session import LostError, ReadOnlyError, RefusedError, Session, SessionError
from foobar.settings import Server, Settings
from foobar.watch import View, Watch, is_writable

RETRY_SECONDS = 2
"""What clients are told to wait before they try again."""

PATIENT_READERS = 2
"""Reads of a process that may wait for a replica to catch up; others ask the primary at once."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


class UnavailableError(Exception):
    """The databases cannot do what was asked, for now.

    `outcome` says what became of a write: "refused" (nothing was changed) or "unknown".
    """

    outcome: str | None = None


class NoReaderError(UnavailableError):
    """No server could be read from."""


class NoPrimaryError(UnavailableError):
    """No server takes writes, or more than one does; nothing was written."""

    outcome = "refused"


class OutcomeUnknownError(UnavailableError):
    """The connection was lost while a write was under way; it may have been kept or not."""

    outcome = "unknown"


@dataclass(frozen=True)
class Read(Generic[T]):
    """What was read and where.

    `freshness` is "unasked" (the reader had written nothing), "covered" (this server has the
    reader's last write), "primary" (the replica was behind, so the primary was read) or "stale"
    (behind, and no primary to ask).
    """

    value: T
    server: str
    role: str
    freshness: str


@dataclass(frozen=True)
class Written(Generic[T]):
    """What a write returned, where it was committed, and the GTID set that covers it."""

    value: T
    server: str
    seen: str | None


class Database:
    """The database servers of the lab as one place to read from and to write to."""

    def __init__(self, settings: Settings, open_session: Callable[[Server], Session]) -> None:
        """Prepare; nothing is connected yet.

        Args:
            settings: the servers and the order of reads.
            open_session: opens a session to a server.
        """

        def pool_of(server: Server) -> Pool:
            return Pool(lambda: open_session(server))

        def probe_of(pool: Pool) -> Callable[[], bool]:
            return lambda: pool.run(is_writable)

        self._order = settings.read_order
        self._pools = {server.name: pool_of(server) for server in settings.servers}
        self._gate = Gate()
        self._patient = threading.BoundedSemaphore(PATIENT_READERS)
        self._watch = Watch({name: probe_of(pool) for name, pool in self._pools.items()})

    def view(self, fresh: float = 1.0) -> View:
        """Return what is known of the servers, no older than `fresh` seconds where they answer."""
        return self._watch.view(fresh)

    def read(
        self, work: Callable[[Session], T], *, seen: str | None = None, only: str | None = None
    ) -> Read[T]:
        """Read from the first server in the order of preference that can answer.

        Args:
            work: sends statements that change nothing and returns a value.
            seen: the reader's last write, as a GTID set; a replica that lacks it is passed over
                for the primary.
            only: read from the server of this name or not at all.

        Raises:
            NoReaderError: no server could be read from.
        """
        view = self._watch.view()
        waiting = [name for name in ((only,) if only else self._order) if view.up(name)]
        failures: list[str] = []
        behind: list[str] = []
        while waiting:
            name = waiting.pop(0)
            promised = seen if name != view.primary and name not in behind else None
            try:
                found = self._read_from(name, work, promised)
            except SessionError as error:
                failures.append(f"{name}: {error}")
                continue
            if found is not None:
                return Read(found[0], name, view.state(name), _freshness(seen, name, behind))
            # The primary next, and this replica as it is when nothing better answers.
            behind.append(name)
            rest = [each for each in waiting if each != view.primary]
            waiting = [each for each in (view.primary,) if each] + rest + [name]
        raise NoReaderError(
            "no database could be read from: " + "; ".join(failures or ["none is up"])
        )

    def write(self, work: Callable[[Session], T]) -> Written[T]:
        """Write to the primary; when this returns, the write is committed.

        The work may be done twice, so it must protect itself with a unique key: once more after
        a refusal or a loss that is known to have changed nothing, and once more with the same
        key after a loss that is not.

        Args:
            work: sends one change and returns a value.

        Raises:
            NoPrimaryError: nothing was written, because no server, or more than one, takes writes.
            OutcomeUnknownError: the connection was lost while the change was under way.
        """
        try:
            with self._gate.entered():
                return self._write(work)
        except StuckError:
            raise NoPrimaryError(
                "writes that came before are still waiting for the primary to answer"
            ) from None

    def _write(self, work: Callable[[Session], T]) -> Written[T]:
        unknown: LostError | None = None
        failure: SessionError | None = None
        for again in (False, True):
            try:
                name = self._primary(insist=again)
            except NoPrimaryError as error:
                if unknown is None:
                    raise
                raise _unknown() from error
            try:
                return self._write_to(name, work)
            except LostError as error:
                failure = error
                unknown = error if error.changing else unknown
                self._watch.lost(name, error)
            except (ReadOnlyError, RefusedError) as error:
                failure = error
            _log.warning("a write on %s failed: %s", name, failure)
        if unknown is not None:
            raise _unknown() from failure
        raise NoPrimaryError(f"the primary did not take the write: {failure}") from failure

    def _read_from(
        self, name: str, work: Callable[[Session], T], promised: str | None
    ) -> tuple[T] | None:
        def when_caught_up(session: Session) -> tuple[T] | None:
            if promised and not self._covers(session, promised):
                return None
            return (work(session),)

        try:
            return self._pools[name].run(when_caught_up)
        except LostError as error:
            self._watch.lost(name, error)
            raise
        except RefusedError as error:
            _log.error("reading from %s failed: %s", name, error)
            raise

    def _covers(self, session: Session, promised: str) -> bool:
        patient = self._patient.acquire(blocking=False)
        try:
            return gtid.covers(session, promised, patient=patient)
        finally:
            if patient:
                self._patient.release()

    def _primary(self, *, insist: bool) -> str:
        view = self._watch.view(insist=insist)
        if view.primary is None and not insist:
            view = self._watch.view(insist=True)
        if view.primary is not None:
            return view.primary
        if view.writable:
            names = " and ".join(view.writable)
            _log.critical("SPLIT BRAIN: %s take writes at the same time; refusing writes", names)
            raise NoPrimaryError(
                f"{names} both take writes: to keep them from drifting apart, nothing is written"
                " until one of them is read-only again"
            )
        states = ", ".join(f"{each.server} is {each.state}" for each in view.servers)
        raise NoPrimaryError(f"no database takes writes at the moment ({states})")

    def _write_to(self, name: str, work: Callable[[Session], T]) -> Written[T]:
        def checked(session: Session) -> Written[T]:
            # Finds a dead connection and a demoted primary before anything is sent.
            if not is_writable(session):
                raise ReadOnlyError(f"{name} is read-only")
            value = work(session)
            try:
                seen = gtid.executed(session)
            except SessionError as error:
                _log.warning("committed on %s, but it did not tell its GTIDs: %s", name, error)
                seen = None
            return Written(value, name, seen)

        return self._pools[name].run(checked)


def _freshness(seen: str | None, server: str, behind: list[str]) -> str:
    if not seen:
        return "unasked"
    if server in behind:
        return "stale"
    return "primary" if behind else "covered"


def _unknown() -> OutcomeUnknownError:
    return OutcomeUnknownError(
        "the connection to the database was lost while this was being written: it may have been"
        " kept or not. Send it again with the same id: it will be kept once."
    )
