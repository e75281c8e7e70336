"""Classes of MySQL's errors; no password is sent to a server without TLS."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from typing import Any

import pymysql
import pytest

from foobar.session import (
    DuplicateError,
    LostError,
    ReadOnlyError,
    SessionError,
    StatementError,
    StrictConnection,
    translate,
)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (pymysql.err.OperationalError(2006, "gone"), LostError),
        (pymysql.err.OperationalError(2013, "lost"), LostError),
        (pymysql.err.OperationalError(2003, "cannot connect"), LostError),
        (pymysql.err.OperationalError(1053, "shutdown"), LostError),
        (pymysql.err.OperationalError(1180, "during commit"), LostError),
        (pymysql.err.InterfaceError(0, ""), LostError),
        (ConnectionResetError("reset"), LostError),
        (pymysql.err.OperationalError(1290, "super-read-only"), ReadOnlyError),
        (pymysql.err.OperationalError(1836, "read-only mode"), ReadOnlyError),
        (pymysql.err.IntegrityError(1062, "Duplicate entry"), DuplicateError),
        (pymysql.err.ProgrammingError(1146, "no such table"), StatementError),
        (pymysql.err.OperationalError(1205, "lock wait"), StatementError),
    ],
)
def test_error_classes(error: Exception, kind: type[SessionError]) -> None:
    assert type(translate(error, changing=True)) is kind


@pytest.mark.parametrize("changing", [False, True])
def test_lost_connection_during_a_change(changing: bool) -> None:
    loss = translate(pymysql.err.OperationalError(2013, "lost"), changing=changing)
    assert isinstance(loss, LostError)
    assert loss.changing is changing


def test_timeout_and_closed_connection_differ() -> None:
    silent = pymysql.err.OperationalError(2013, "lost")
    silent.__context__ = TimeoutError()
    assert getattr(translate(silent, changing=False), "timed_out", None) is True
    gone = translate(pymysql.err.OperationalError(2013, "lost"), changing=False)
    assert getattr(gone, "timed_out", None) is False


def _greeting(capabilities: int) -> bytes:
    """Return the first packet of a MySQL server (Protocol::HandshakeV10)."""
    low, high = struct.pack("<H", capabilities & 0xFFFF), struct.pack("<H", capabilities >> 16)
    body = b"\x0a9.7.4\0" + struct.pack("<I", 1) + b"12345678\0" + low + b"\xff\x02\x00" + high
    body += b"\x15" + bytes(10) + b"123456789012\0caching_sha2_password\0"
    return struct.pack("<I", len(body))[:3] + b"\0" + body


def test_server_without_tls_gets_no_data() -> None:
    without_tls = 0x00080000 | 0x8000 | 0x0200  # PLUGIN_AUTH, SECURE_CONNECTION, PROTOCOL_41
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def impostor() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(5)
                peer.sendall(_greeting(without_tls))
                heard.append(peer.recv(1024))

        thread = threading.Thread(target=impostor)
        thread.start()
        with pytest.raises(pymysql.err.OperationalError, match="does not offer TLS"):
            StrictConnection(
                host="127.0.0.1",
                port=listener.getsockname()[1],
                user="foobar_app",
                password="secret-word",
                ssl=ssl.create_default_context(),
                connect_timeout=5,
                read_timeout=5,
            )
        thread.join()
    assert heard == [b""]


def test_read_timeout_reaches_the_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection: Any = StrictConnection(defer_connect=True)
        connection.set_read_timeout(0.05)
        ours.settimeout(5)  # the test's own end, should patience() have no effect
        connection._sock = ours
        connection._current_timeout = None
        connection._next_seq_id = 0
        connection._rfile = ours.makefile("rb")
        started = time.monotonic()
        with pytest.raises(pymysql.err.OperationalError) as caught:
            connection._read_packet()
        assert time.monotonic() - started < 1
        assert getattr(translate(caught.value, changing=False), "timed_out", None) is True
