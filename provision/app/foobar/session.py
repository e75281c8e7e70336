"""A connection to a MySQL server, and the classes of its errors; the only user of PyMySQL."""

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
"""Timeout of the TCP connection, and of each reply during authentication."""
QUERY_SECONDS = 0.8
"""Timeout of a statement that changes nothing; /healthz may queue behind it and has to respond
within a second."""
CHANGE_SECONDS = 5.0
"""Timeout of a change: a commit may wait for the semi-synchronous replica."""

Row = tuple[Any, ...]

if TYPE_CHECKING:
    _Connection = Connection[Any]
else:
    _Connection = Connection

# Names of codes: MySQL 9.7 error reference. ER_ERROR_DURING_COMMIT is included because, as with
# a lost connection, the outcome of the change is unknown.
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
    """The connection was lost, could not be opened, or timed out."""

    def __init__(self, message: str, *, timed_out: bool = False, changing: bool = False) -> None:
        """Describe the loss.

        Args:
            timed_out: the server did not respond, but did not close the connection either.
            changing: a change had been sent, so its outcome is unknown.
        """
        super().__init__(message)
        self.timed_out = timed_out
        self.changing = changing


class ReadOnlyError(SessionError):
    """The server refuses changes; nothing was changed."""


class DuplicateError(SessionError):
    """The value of a unique key exists; nothing was changed."""


class StatementError(SessionError):
    """The server reported any other error; nothing was changed."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"MySQL error {code}: {message}")
        self.code = code


class DatabaseSession(Protocol):
    """A connection with autocommit: each statement is a transaction."""

    opened: float
    changing: bool

    def query(
        self, sql: str, args: Sequence[object] = (), seconds: float = QUERY_SECONDS
    ) -> list[Row]:
        """Send a statement that changes nothing and return its rows.

        Args:
            sql: with %s for each value.
            seconds: the timeout.

        Raises:
            SessionError: one of the kinds above.
        """
        ...

    def change(self, sql: str, args: Sequence[object] = ()) -> int:
        """Send a statement that changes rows, commit it, and return the number of rows.

        Raises:
            SessionError: one of the kinds above; only `LostError` leaves the outcome unknown.
        """
        ...

    def close(self) -> None:
        """Close the connection; never raises."""
        ...


class StrictConnection(_Connection):
    """PyMySQL's connection, with required TLS and a variable read timeout.

    PyMySQL 1.1 continues without encryption if the server does not support TLS, even with a TLS
    context: an impostor could ask for the password. Its read timeout is fixed per connection.
    """

    _read_timeout: float | None
    server_capabilities: int

    def _get_server_information(self) -> None:
        super()._get_server_information()  # type: ignore[misc]
        if not self.server_capabilities & CLIENT.SSL:
            raise pymysql.err.OperationalError(
                CR.CR_SSL_CONNECTION_ERROR, "the server does not offer TLS"
            )

    def set_read_timeout(self, seconds: float) -> None:
        """Set the read timeout of further statements."""
        self._read_timeout = seconds


@dataclass
class MySQLSession:
    """A `DatabaseSession` over TLS. Made by `opener`."""

    connection: StrictConnection
    opened: float
    changing: bool = False

    def query(
        self, sql: str, args: Sequence[object] = (), seconds: float = QUERY_SECONDS
    ) -> list[Row]:
        """See `DatabaseSession.query`."""
        return self._send(sql, args, seconds)[0]

    def change(self, sql: str, args: Sequence[object] = ()) -> int:
        """See `DatabaseSession.change`."""
        self.changing = True
        changed = self._send(sql, args, CHANGE_SECONDS)[1]
        self.changing = False
        return changed

    def close(self) -> None:
        """See `DatabaseSession.close`."""
        try:
            self.connection.close()
        except (pymysql.MySQLError, OSError):
            return

    def _send(self, sql: str, args: Sequence[object], seconds: float) -> tuple[list[Row], int]:
        try:
            self.connection.set_read_timeout(seconds)
            with self.connection.cursor() as cursor:
                changed = cursor.execute(sql, tuple(args))
                return list(cursor.fetchall()), changed
        except (pymysql.MySQLError, OSError) as error:
            failure = translate(error, changing=self.changing)
            if not isinstance(failure, LostError):
                self.changing = False
            raise failure from error


def translate(error: Exception, *, changing: bool) -> SessionError:
    """Return the class of an error of PyMySQL or of its socket."""
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
    return StatementError(code, message)


def opener(settings: Settings) -> Callable[[Server], MySQLSession]:
    """Return a function that opens sessions as the application's account.

    It raises `LostError` or `StatementError`. TLS is required; the certificate must be
    signed by the configured CA and contain the address of the server.
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
