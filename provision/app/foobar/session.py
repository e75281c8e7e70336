"""One connection to one MySQL server, and what its errors mean; the only user of PyMySQL."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pymysql
from pymysql.connections import Connection
from pymysql.constants import CLIENT, CR, ER

from foobar.settings import Server, Settings

CONNECT_SECONDS = 1.0
"""Longest wait for TCP, and for each answer while logging in."""
ASK_SECONDS = 0.8
"""Longest wait for the answer to a statement that changes nothing; /healthz may stand in line
behind it and has to answer within a second."""
CHANGE_SECONDS = 5.0
"""Longest wait for a change: a commit may wait for the semi-synchronous replica."""

Row = tuple[Any, ...]

if TYPE_CHECKING:
    _Connection = Connection[Any]
else:
    _Connection = Connection

# Names of codes: MySQL 9.7 error reference. ER_ERROR_DURING_COMMIT stands here too, because
# it, like a lost connection, does not say whether the change was kept.
_SESSION_KILLED = 3169
_IDLE_TOO_LONG = 4031
_LOST = frozenset(
    {
        CR.CR_CONN_HOST_ERROR,
        CR.CR_SERVER_GONE_ERROR,
        CR.CR_SERVER_LOST,
        CR.CR_SERVER_LOST_EXTENDED,
        CR.CR_SSL_CONNECTION_ERROR,
        ER.SERVER_SHUTDOWN,
        ER.NORMAL_SHUTDOWN,
        ER.FORCING_CLOSE,
        ER.ERROR_DURING_COMMIT,
        _SESSION_KILLED,
        _IDLE_TOO_LONG,
    }
)
# "running with the --super-read-only option" and "running in read-only mode".
_READ_ONLY = frozenset({ER.OPTION_PREVENTS_STATEMENT, 1836})
_DUPLICATE = ER.DUP_ENTRY


class SessionError(Exception):
    """A statement failed, or the connection did."""


class LostError(SessionError):
    """The connection is gone, could not be made, or did not answer in time."""

    def __init__(self, message: str, *, timed_out: bool = False, changing: bool = False) -> None:
        """Describe the loss.

        Args:
            message: what happened, for the log.
            timed_out: the server was silent, as opposed to gone.
            changing: a change had been sent, so whether it was kept is unknown.
        """
        super().__init__(message)
        self.timed_out = timed_out
        self.changing = changing


class ReadOnlyError(SessionError):
    """The server refuses changes; nothing was changed."""


class DuplicateError(SessionError):
    """A unique key holds the value already; nothing was changed."""


class RefusedError(SessionError):
    """The server answered a statement with any other error; nothing was changed."""

    def __init__(self, code: int, message: str) -> None:
        """Keep MySQL's own words.

        Args:
            code: MySQL's error number.
            message: MySQL's message.
        """
        super().__init__(f"MySQL error {code}: {message}")
        self.code = code


class Session(Protocol):
    """A connection that statements are sent through, one at a time, each its own transaction."""

    opened: float
    changing: bool

    def ask(self, sql: str, args: Sequence[object] = (), seconds: float = ASK_SECONDS) -> list[Row]:
        """Send a statement that changes nothing and return its rows.

        Args:
            sql: the statement, with %s for each value.
            args: the values.
            seconds: longest wait for the answer.

        Raises:
            SessionError: one of the kinds above.
        """
        ...

    def change(self, sql: str, args: Sequence[object] = ()) -> int:
        """Send a statement that changes rows; when it returns, the change is committed.

        Args:
            sql: the statement, with %s for each value.
            args: the values.

        Returns:
            The number of rows that changed.

        Raises:
            SessionError: one of the kinds above; only `LostError` leaves the outcome unknown.
        """
        ...

    def close(self) -> None:
        """Close the connection; never raises."""
        ...


class StrictConnection(_Connection):
    """PyMySQL's connection, with two things it does not offer.

    PyMySQL 1.1 goes on without encryption when the server does not offer TLS, although a TLS
    context was given: that would let whoever answers at the address ask for a password. And its
    read time-out is fixed for the life of a connection.
    """

    _read_timeout: float | None
    server_capabilities: int

    def _get_server_information(self) -> None:
        super()._get_server_information()  # type: ignore[misc]
        if not self.server_capabilities & CLIENT.SSL:
            raise pymysql.err.OperationalError(
                CR.CR_SSL_CONNECTION_ERROR, "the server does not offer TLS"
            )

    def patience(self, seconds: float) -> None:
        """Set the longest silence of the server from now on, in seconds."""
        self._read_timeout = seconds


@dataclass
class MySQLSession:
    """A `Session` over TLS. Made by `opener`."""

    connection: StrictConnection
    opened: float
    changing: bool = False

    def ask(self, sql: str, args: Sequence[object] = (), seconds: float = ASK_SECONDS) -> list[Row]:
        """See `Session.ask`."""
        return self._send(sql, args, seconds)[0]

    def change(self, sql: str, args: Sequence[object] = ()) -> int:
        """See `Session.change`."""
        self.changing = True
        changed = self._send(sql, args, CHANGE_SECONDS)[1]
        self.changing = False
        return changed

    def close(self) -> None:
        """See `Session.close`."""
        try:
            self.connection.close()
        except (pymysql.MySQLError, OSError):
            return

    def _send(self, sql: str, args: Sequence[object], seconds: float) -> tuple[list[Row], int]:
        try:
            self.connection.patience(seconds)
            with self.connection.cursor() as cursor:
                changed = cursor.execute(sql, tuple(args))
                return list(cursor.fetchall()), changed
        except (pymysql.MySQLError, OSError) as error:
            failure = translate(error, changing=self.changing)
            if not isinstance(failure, LostError):
                self.changing = False
            raise failure from error


def translate(error: Exception, *, changing: bool) -> SessionError:
    """Return what an error of PyMySQL means to this application.

    Args:
        error: what PyMySQL, or the socket beneath it, raised.
        changing: a change had been sent when it was raised.
    """
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    message = str(error.args[1]) if len(error.args) > 1 else str(error)
    if code in _READ_ONLY:
        return ReadOnlyError(f"MySQL error {code}: {message}")
    if code == _DUPLICATE:
        return DuplicateError(message)
    lost = isinstance(error, OSError | pymysql.err.InterfaceError) or code in _LOST
    if lost or code == 0:
        origin = getattr(error, "original_exception", None) or error.__context__ or error
        return LostError(message, timed_out=isinstance(origin, TimeoutError), changing=changing)
    return RefusedError(code, message)


def opener(settings: Settings) -> Callable[[Server], MySQLSession]:
    """Return the function that opens sessions as the application's account.

    TLS is always used; the certificate must be signed by the CA of the settings and name the
    address that was dialled.

    Args:
        settings: account, schema and CA file.

    Returns:
        A function of a server that returns a session, or raises `LostError` or `RefusedError`.
    """
    trust = ssl.create_default_context(cafile=str(settings.ca))
    trust.minimum_version = ssl.TLSVersion.TLSv1_2

    def open_session(server: Server) -> MySQLSession:
        try:
            connection = StrictConnection(
                host=server.address,
                user=settings.user,
                password=settings.password,
                database=settings.database,
                charset="utf8mb4",
                autocommit=True,
                connect_timeout=CONNECT_SECONDS,
                read_timeout=CONNECT_SECONDS,
                write_timeout=CHANGE_SECONDS,
                ssl=trust,
            )
        except (pymysql.MySQLError, OSError) as error:
            raise translate(error, changing=False) from error
        return MySQLSession(connection, opened=time.monotonic())

    return open_session
