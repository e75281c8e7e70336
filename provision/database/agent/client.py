"""On the machine: MySQL's own protocol, as much of it as a lab needs, without starting a program.

Asking through the local socket costs a millisecond, a ``mysql`` process some fifty; during a
promotion that is the difference between an unnoticed and a noticed one. Standard library only.

Source: MySQL 9.7 source documentation, "Client/Server Protocol" (connection phase, COM_QUERY).
"""

from __future__ import annotations

import hashlib
import socket
import struct
from typing import Any

SOCKET = "/run/mysqld/mysqld.sock"
PORT = 3306
CA = "/etc/mysql/lab/ca.pem"

Row = dict[str, "str | None"]

_LONG_PASSWORD, _LONG_FLAG, _PROTOCOL_41, _SSL = 1, 4, 0x200, 0x800
_TRANSACTIONS, _SECURE, _MULTI_RESULTS, _PLUGIN_AUTH = 0x2000, 0x8000, 0x20000, 0x80000
_CAPABILITIES = (
    _LONG_PASSWORD | _LONG_FLAG | _PROTOCOL_41 | _TRANSACTIONS | _SECURE | _MULTI_RESULTS
) | _PLUGIN_AUTH
_UTF8MB4 = 45
_LARGEST = 0xFFFFFF


class MysqlError(Exception):
    """MySQL refused or cannot be reached.

    Args:
        code: MySQL's error number (its manual, "Error Message Reference"); 0 without an answer.
        text: what it said.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"MySQL error {code}: {text}" if code else text)
        self.code = code
        self.text = text


class Client:
    """One session with a server."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = b""
        self._sequence = 0
        self.version = ""
        self.thread = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session."""
        try:
            self._sequence = 0
            self._send(b"\x01")
        except (OSError, MysqlError):
            pass
        finally:
            self._socket.close()

    def patience(self, seconds: float | None) -> None:
        """Wait at most that long for each packet from now on; None: for ever."""
        self._socket.settimeout(seconds)

    # --- statements ------------------------------------------------------------------------------

    def query(self, sql: str) -> list[Row]:
        """Send one statement; the rows it returns, every value as text or None.

        Raises:
            MysqlError: with MySQL's number and message.
        """
        self._sequence = 0
        self._send(b"\x03" + sql.encode())
        return self._result()

    def row(self, sql: str) -> Row:
        """The first row of a query; empty when there is none."""
        rows = self.query(sql)
        return rows[0] if rows else {}

    def value(self, sql: str) -> str:
        """The first column of the first row as text; empty for NULL or none."""
        return next(iter(self.row(sql).values()), None) or ""

    def _result(self) -> list[Row]:
        first = self._receive()
        if first[0] == 0x00:
            return []
        if first[0] == 0xFB:
            raise MysqlError(0, "the server asks for a local file")
        count, _ = _length(first, 0)
        columns = [_column(self._receive()) for _ in range(count)]
        self._receive()  # end of the columns
        rows: list[Row] = []
        while True:
            packet = self._receive()
            if packet[0] == 0xFE and len(packet) < 9:
                return rows
            rows.append(_row(packet, columns))

    # --- packets ---------------------------------------------------------------------------------

    def _send(self, payload: bytes) -> None:
        if len(payload) >= _LARGEST:
            raise MysqlError(0, "the statement is too long")
        head = struct.pack("<I", len(payload))[:3] + bytes([self._sequence & 0xFF])
        self._sequence += 1
        try:
            self._socket.sendall(head + payload)
        except OSError as error:
            raise MysqlError(0, f"the connection was lost ({error})") from None

    def _receive(self) -> bytes:
        payload = b""
        while True:
            head = self._exactly(4)
            size = int.from_bytes(head[:3], "little")
            self._sequence = head[3] + 1
            payload += self._exactly(size)
            if size < _LARGEST:
                break
        if payload[:1] == b"\xff":
            raise _error(payload)
        if not payload:
            raise MysqlError(0, "the server sent an empty packet")
        return payload

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            try:
                received = self._socket.recv(1 << 16)
            except TimeoutError:
                raise MysqlError(0, "no answer in time") from None
            except OSError as error:
                raise MysqlError(0, f"the connection was lost ({error})") from None
            if not received:
                raise MysqlError(0, "the server closed the connection")
            self._buffer += received
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    # --- logging in ------------------------------------------------------------------------------

    def login(self, user: str, password: str = "", tls: Any = None, name: str = "") -> None:
        """Answer the server's greeting.

        Args:
            user: account name.
            password: sent as a digest, or over TLS.
            tls: an ``ssl.SSLContext``; None only through the local socket.
            name: that the server's certificate must have.
        """
        greeting = self._receive()
        self.version, self.thread, nonce, plugin = _greeting(greeting)
        wanted = _CAPABILITIES | (_SSL if tls is not None else 0)
        start = struct.pack("<IIB23x", wanted, 1 << 24, _UTF8MB4)
        if tls is not None:
            self._send(start)
            try:
                self._socket = tls.wrap_socket(self._socket, server_hostname=name)
            except OSError as error:
                raise MysqlError(0, f"TLS failed: {error}") from None
        answer = _digest(plugin, password, nonce)
        body = user.encode() + b"\0" + bytes([len(answer)]) + answer + plugin.encode() + b"\0"
        self._send(start + body)
        self._authenticate(password, nonce, tls is not None)

    def _authenticate(self, password: str, nonce: bytes, secure: bool) -> None:
        while True:
            packet = self._receive()
            if packet[0] == 0x00:
                return
            if packet[0] == 0xFE:
                name, _, rest = packet[1:].partition(b"\0")
                nonce = rest.rstrip(b"\0")
                self._send(_digest(name.decode(), password, nonce))
            elif packet[:2] == b"\x01\x04":
                if not secure:
                    raise MysqlError(0, "the server wants the password, and this is not TLS")
                self._send(password.encode() + b"\0")
            elif packet[:2] != b"\x01\x03":
                raise MysqlError(0, f"the server wants an unknown login step {packet[:2]!r}")


def local(timeout: float = 10.0, path: str = SOCKET) -> Client:
    """A session as root through the local socket.

    Args:
        timeout: seconds for each answer.
        path: the socket.

    Raises:
        MysqlError: when mysqld does not answer there.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise MysqlError(
            0, f"mysqld does not answer at {path} ({error.strerror or error})"
        ) from None
    client = Client(connection)
    try:
        client.login("root")
    except MysqlError:
        client.close()
        raise
    return client


def remote(
    address: str, user: str, password: str, ca: str = CA, timeout: float = 2.0, port: int = PORT
) -> Client:
    """A session over TLS; the server's certificate must be the lab's, for that address.

    Args:
        address: of the server.
        user: account name.
        password: its password.
        ca: the file of the lab's authority.
        timeout: seconds for the connection, and for each answer.
        port: TCP port.

    Raises:
        MysqlError: when it does not answer, is not who it should be, or refuses.
    """
    import ssl

    try:
        tls = ssl.create_default_context(cafile=ca)
        connection = socket.create_connection((address, port), timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise MysqlError(0, f"no connection to {address} ({error.strerror or error})") from None
    client = Client(connection)
    try:
        client.login(user, password, tls, address)
    except MysqlError:
        client.close()
        raise
    return client


def quote(text: str) -> str:
    r"""A string literal, for a session in the usual SQL mode (``\`` escapes)."""
    for raw, escaped in (("\\", "\\\\"), ("'", "\\'"), ("\0", "\\0"), ("\n", "\\n")):
        text = text.replace(raw, escaped)
    return f"'{text}'"


def name(text: str) -> str:
    """An identifier in backquotes."""
    return "`" + text.replace("`", "``") + "`"


def _greeting(packet: bytes) -> tuple[str, int, bytes, str]:
    """Version, thread, nonce and login plugin of a server's first packet."""
    if packet[0] != 10:
        raise MysqlError(0, f"not a MySQL server: protocol {packet[0]}")
    end = packet.index(b"\0", 1)
    version = packet[1:end].decode(errors="replace")
    (thread,) = struct.unpack_from("<I", packet, end + 1)
    nonce = packet[end + 5 : end + 13]
    length = packet[end + 21]
    rest = end + 32
    more = max(13, length - 8)
    nonce += packet[rest : rest + more].rstrip(b"\0")
    plugin = packet[rest + more :].partition(b"\0")[0].decode()
    return version, thread, nonce, plugin


def _digest(plugin: str, password: str, nonce: bytes) -> bytes:
    """What proves the password: XOR(SHA256(p), SHA256(SHA256(SHA256(p)), nonce))."""
    if plugin != "caching_sha2_password" or not password:
        return b""
    first = hashlib.sha256(password.encode()).digest()
    second = hashlib.sha256(hashlib.sha256(first).digest() + nonce).digest()
    return bytes(a ^ b for a, b in zip(first, second, strict=True))


def _error(packet: bytes) -> MysqlError:
    (code,) = struct.unpack_from("<H", packet, 1)
    start = 9 if packet[3:4] == b"#" else 3
    return MysqlError(code, packet[start:].decode(errors="replace"))


def _length(packet: bytes, at: int) -> tuple[int, int]:
    """A length-encoded number and where it ends."""
    first = packet[at]
    if first < 0xFB:
        return first, at + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}[first]
    return int.from_bytes(packet[at + 1 : at + 1 + size], "little"), at + 1 + size


def _column(packet: bytes) -> str:
    """The name of a column, out of its definition: the fifth of its texts."""
    at, text = 0, b""
    for _ in range(5):
        size, at = _length(packet, at)
        text, at = packet[at : at + size], at + size
    return text.decode()


def _row(packet: bytes, columns: list[str]) -> Row:
    row: Row = {}
    at = 0
    for column in columns:
        if packet[at] == 0xFB:
            row[column], at = None, at + 1
            continue
        size, at = _length(packet, at)
        row[column] = packet[at : at + size].decode(errors="replace")
        at += size
    return row
