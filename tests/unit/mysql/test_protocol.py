"""The MySQL protocol: packets that a real server sent, and what is understood from them."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from provision.database.agent import client as mysql_client
from provision.database.agent.client import Client, MysqlError

RECORDED = Path(__file__).parent / "recorded"
GREETING = bytes.fromhex((RECORDED / "greeting.hex").read_text())
NOT_ALLOWED = bytes.fromhex(
    "42000000ff6a04486f737420273132372e302e302e3127206973206e6f7420616c6c6f77656420746f2063"
    "6f6e6e65637420746f2074686973204d7953514c20736572766572"
)
"""What a server sends instead of a greeting to an address that no account fits."""


def packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


def text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


def column(name: str) -> bytes:
    return b"".join(text(t) for t in ("def", "", "", "", name, "")) + bytes(13)


class Server:
    """The other end of a socket, which sends prepared bytes for each packet that it receives."""

    def __init__(self, *answers: bytes) -> None:
        self.client, self._end = socket.socketpair()
        self.client.settimeout(5)
        self.received: list[bytes] = []
        self._answers = answers
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with self._end:
            for answer in self._answers:
                self._end.sendall(answer)
                head = self._end.recv(4)
                if len(head) < 4:
                    return
                self.received.append(self._end.recv(int.from_bytes(head[:3], "little")))

    def close(self) -> None:
        self.client.close()
        self._thread.join(5)


def test_a_recorded_greeting() -> None:
    version, thread, nonce, plugin = mysql_client._greeting(GREETING[4:])
    assert version == "9.7.4-2"
    assert thread == 0x43
    assert len(nonce) == 20
    assert plugin == "caching_sha2_password"


def test_the_password_is_proved_as_the_manual_says() -> None:
    """XOR(SHA256(password), SHA256(SHA256(SHA256(password)), nonce)); computed by hand once."""
    assert mysql_client._digest("caching_sha2_password", "", b"x" * 20) == b""
    proof = mysql_client._digest("caching_sha2_password", "secret", bytes(range(20)))
    assert proof.hex() == PROOF
    assert mysql_client._digest("auth_socket", "secret", bytes(range(20))) == b""


PROOF = "6c84c617ec1f26456a02c42ed7cb02eca7d8511333f98bc9b31e5f68ce1665d5"


def test_rows_nulls_and_long_values() -> None:
    long = "x" * 300
    row = text("1") + b"\xfb" + b"\xfc" + len(long).to_bytes(2, "little") + long.encode()
    answer = (
        packet(1, b"\x03")
        + packet(2, column("a"))
        + packet(3, column("b"))
        + packet(4, column("c"))
        + packet(5, b"\xfe\0\0\2\0")
        + packet(6, row)
        + packet(7, b"\xfe\0\0\2\0")
    )
    server = Server(b"", answer)
    client = Client(server.client)
    assert client.query("SELECT 1") == [{"a": "1", "b": None, "c": long}]
    assert server.received == [b"\x03SELECT 1"]
    server.close()


def test_a_value_that_looks_like_an_end() -> None:
    """A row whose first value is huge starts with 0xfe too; its length tells them apart."""
    value = "y" * 70000
    row = b"\xfd" + len(value).to_bytes(3, "little") + value.encode()
    answer = packet(1, b"\x01") + packet(2, column("a")) + packet(3, b"\xfe\0\0\2\0")
    server = Server(b"", answer + packet(4, row) + packet(5, b"\xfe\0\0\2\0"))
    assert Client(server.client).value("SELECT a") == value
    server.close()


def test_an_error_has_number_and_text() -> None:
    error = b"\xff" + (1146).to_bytes(2, "little") + b"#42S02Table 'x.y' doesn't exist"
    server = Server(b"", packet(1, error))
    with pytest.raises(MysqlError, match=r"MySQL error 1146: Table 'x\.y' doesn't exist") as caught:
        Client(server.client).query("SELECT 1 FROM x.y")
    assert caught.value.code == 1146
    server.close()


def test_a_refusal_before_the_greeting() -> None:
    server = Server(NOT_ALLOWED)
    with pytest.raises(MysqlError, match="is not allowed to connect") as caught:
        Client(server.client).login("root")
    assert caught.value.code == 1130
    server.close()


def test_login_through_the_socket_switches_to_auth_socket() -> None:
    switch = packet(2, b"\xfeauth_socket\0")
    server = Server(GREETING, switch, packet(4, b"\0\0\0\2\0\0\0"))
    client = Client(server.client)
    client.login("root")
    assert client.version == "9.7.4-2"
    assert b"root\0" in server.received[0]
    assert server.received[1] == b""
    server.close()


def test_the_password_itself_goes_over_tls_alone() -> None:
    server = Server(GREETING, packet(2, b"\x01\x04"))
    with pytest.raises(MysqlError, match="this is not TLS"):
        Client(server.client).login("repl", "secret")
    server.close()
    assert all(b"secret" not in each for each in server.received)


def test_a_server_that_goes_away() -> None:
    server = Server(b"")
    server.client.shutdown(socket.SHUT_WR)
    server._thread.join(5)
    with pytest.raises(MysqlError, match=r"lost|closed"):
        Client(server.client).query("SELECT 1")
    server.close()


@pytest.mark.parametrize(
    ("raw", "quoted"),
    [("a", "'a'"), ("it's", r"'it\'s'"), ("a\\", r"'a\\'"), ("a\nb\0", r"'a\nb\0'")],
)
def test_quoting(raw: str, quoted: str) -> None:
    assert mysql_client.quote(raw) == quoted


def test_names_are_quoted() -> None:
    assert mysql_client.name("a`b") == "`a``b`"
