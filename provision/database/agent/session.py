"""Sessions with a MySQL server: PyMySQL, with every value as text and one kind of error.

PyMySQL (Debian's python3-pymysql) is imported with the first session: it costs 25 ms. In the other
modules, every function with a session raises `MysqlError` when the server refuses or does not
respond in time.
"""

from __future__ import annotations

import contextlib
import errno
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from provision.engine.agent.process import AgentError

if TYPE_CHECKING:
    import ssl

SOCKET = "/run/mysqld/mysqld.sock"
PORT = 3306
CA = "/etc/mysql/lab/ca.pem"

Row = dict[str, "str | None"]

CONNECTION_ERROR = 2002
"""CR_CONNECTION_ERROR: no connection through the local socket."""

SERVER_LOST = 2013
"""CR_SERVER_LOST: the server accepted the connection, and does not respond in time."""

NO_LAB_TABLE = (1049, 1142, 1146)
"""No such schema, no privilege on the table, no such table: the server was never in this lab."""


class MysqlError(AgentError):
    """MySQL refused a statement, or the session was lost.

    Args:
        code: MySQL's error number; 2000 and above come from the client (the manual, "Error Message
            Reference").
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"MySQL error {code}: {text}")
        self.code = code
        self.text = text


class ServerNotRunningError(MysqlError):
    """No mysqld listens on the local socket."""


class MysqlSession:
    """One session; ``query`` returns every value as text or None."""

    def __init__(self, timeout: float, **options: Any) -> None:
        # PyMySQL needs cryptography only for passwords without TLS, which the lab never sends.
        # Importing it would cost 30 ms and 6 MB.
        sys.modules.setdefault("cryptography", None)  # type: ignore[arg-type]
        try:
            import pymysql
            from pymysql.converters import encoders
        except ModuleNotFoundError:  # before the machine is configured for the first time
            raise MysqlError(CONNECTION_ERROR, "python3-pymysql is not installed") from None

        decoderless: Any = encoders  # so that every value stays text
        self._error = pymysql.MySQLError
        try:
            self._connection: Any = pymysql.connect(
                conv=decoderless,
                charset="utf8mb4",
                autocommit=True,
                connect_timeout=timeout,
                read_timeout=timeout,
                write_timeout=timeout,
                **options,
            )
        except pymysql.MySQLError as error:
            cause = getattr(error, "original_exception", None)
            if isinstance(cause, OSError) and cause.errno in (errno.ENOENT, errno.ECONNREFUSED):
                raise ServerNotRunningError(*_code_and_text(error)) from None
            if isinstance(cause, BlockingIOError):  # unix(7): so many wait for a hung server
                raise MysqlError(SERVER_LOST, "its queue of connections is full") from None
            raise MysqlError(*_code_and_text(error)) from None

    def __enter__(self) -> MysqlSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session; a lost one is closed as well."""
        with contextlib.suppress(self._error, OSError):
            self._connection.close()

    def query(self, sql: str, values: Iterable[object] = ()) -> list[Row]:
        """Execute one statement.

        Args:
            values: replace ``%s`` in the statement, quoted as literals.

        Raises:
            MysqlError: with MySQL's number and message.
        """
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, tuple(values) or None)
                columns = [column[0] for column in cursor.description or ()]
                return [
                    dict(zip(columns, map(_text, row), strict=True)) for row in cursor.fetchall()
                ]
        except self._error as error:
            raise MysqlError(*_code_and_text(error)) from None

    def row(self, sql: str, values: Iterable[object] = ()) -> Row:
        """The first row of a query; empty when there is none."""
        rows = self.query(sql, values)
        return rows[0] if rows else {}

    def value(self, sql: str, values: Iterable[object] = ()) -> str:
        """The first column of the first row; empty for NULL or without a row."""
        return next(iter(self.row(sql, values).values()), None) or ""


def connect_local(timeout: float = 10.0, wait: float = 0.0) -> MysqlSession:
    """Connect as root through the local socket.

    Args:
        timeout: seconds for connecting and for each response.
        wait: seconds to keep trying, while mysqld starts.

    Raises:
        ServerNotRunningError: when no mysqld listens.
        MysqlError: when it does not respond, or refuses.
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            return MysqlSession(timeout, unix_socket=SOCKET, user="root")
        except MysqlError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)


def connect_remote(address: str, user: str, password: str, timeout: float = 2.0) -> MysqlSession:
    """Connect over TLS; the certificate must be the lab's and name this address.

    Args:
        timeout: seconds for connecting and for each response.

    Raises:
        MysqlError: when the server does not respond, has another certificate, or refuses.
    """
    options = {"host": address, "port": PORT, "user": user, "password": password}
    return MysqlSession(timeout, **options, ssl=_tls_context())


def _tls_context() -> ssl.SSLContext:
    import ssl

    try:
        return ssl.create_default_context(cafile=CA)
    except OSError as error:
        raise MysqlError(2026, f"{CA} cannot be loaded: {error.strerror or error}") from None


def quote_name(text: str) -> str:
    """An identifier in backquotes."""
    return "`" + text.replace("`", "``") + "`"


def _text(value: Any) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _code_and_text(error: Exception) -> tuple[int, str]:
    code, *text = error.args or (0,)
    return (code, str(text[0]) if text else "") if isinstance(code, int) else (0, str(error))
