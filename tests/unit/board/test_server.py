"""Where a board listens: addresses, ports in use, certificates, one board per lab."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from provision.board.server import (
    ListenAddress,
    certificate_files,
    listen,
    only_board,
    parse_address,
)
from provision.core.errors import LabError


@pytest.mark.parametrize("text", ["0.0.0.0", "::", "nowhere", "", "224.0.0.1", "192.168.1.0/24"])
def test_addresses_that_are_refused(text: str) -> None:
    with pytest.raises(LabError, match="--bind"):
        parse_address(text)


def test_a_port_in_use_is_named_with_another_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(LabError, match=rf"port {port} of 127.0.0.1 is in use") as caught:
            listen(ListenAddress(parse_address("127.0.0.1"), port))
    assert caught.value.hint == f"invoke board.serve --port {port + 1}"


def test_an_address_of_another_computer() -> None:
    with pytest.raises(LabError, match="no address of this computer"):
        listen(ListenAddress(parse_address("192.0.2.1"), 8090))


def test_the_second_board_of_a_lab_names_the_first(tmp_path: Path) -> None:
    with only_board(tmp_path, "http://127.0.0.1:8090/"):
        with pytest.raises(LabError) as caught, only_board(tmp_path, "http://127.0.0.1:8091/"):
            pass
        name = f"lab {tmp_path.name} has a board already: http://127.0.0.1:8090/"
        assert caught.value.what == f"{name} (pid {os.getpid()})"
        assert caught.value.hint.endswith(f"kill {os.getpid()}")
    with only_board(tmp_path, "http://127.0.0.1:8091/"):
        pass


def test_hosts_of_an_address() -> None:
    loopback = ListenAddress(parse_address("127.0.0.1"), 8090)
    assert loopback.hosts == {"127.0.0.1:8090", "localhost:8090"}
    other = ListenAddress(parse_address("192.168.1.20"), 8090, (Path("c"), Path("k")))
    assert other.hosts == {"192.168.1.20:8090"}
    assert other.url == "https://192.168.1.20:8090/"
    assert ListenAddress(parse_address("::1"), 1).url == "http://[::1]:1/"


SERVE = """
import sys
from pathlib import Path
from provision.board import server
from provision.board.access import BoardRoom, Seat
directory = Path(sys.argv[1]) / ".lab" / "red"
files = server.certificate_files(directory, server.parse_address("127.0.0.2"))
place = server.ListenAddress(server.parse_address("127.0.0.2"), int(sys.argv[2]), files)
room = BoardRoom("x", (Seat("red", "red", "AAAAA-22222"),), "TTTTT-22222", b"key")
server.serve(room, place, lambda run: {}, lambda: print("ready", flush=True), Path(sys.argv[1]))
"""


def test_tls_by_the_labs_ca_and_an_end_by_a_signal(tmp_path: Path) -> None:
    """As with ``--bind``: the browser verifies the certificate, its name is the address."""
    with socket.create_server(("127.0.0.2", 0)) as other:
        port = other.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(tmp_path), str(port)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        trust = ssl.create_default_context(cafile=str(tmp_path / ".lab" / "red" / "ca.pem"))
        handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)]
        opener = urllib.request.build_opener(*handlers)
        with opener.open(f"https://127.0.0.2:{port}/", timeout=20) as response:
            assert b"Code of your team" in response.read()
            assert response.headers["Strict-Transport-Security"]
        request = urllib.request.Request(
            f"https://127.0.0.2:{port}/api/login",
            b'{"code": "AAAAA-22222"}',
            {"Origin": f"https://127.0.0.2:{port}", "Content-Type": "application/json"},
        )
        with opener.open(request, timeout=20) as response:
            assert "; secure" in response.headers["Set-Cookie"].lower()
        with pytest.raises(OSError, match=r"wrong version|reset|closed"):
            urllib.request.build_opener(handlers[0]).open(f"http://127.0.0.2:{port}/", timeout=5)
    finally:
        process.terminate()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()
    assert not (tmp_path / ".lab" / "red" / "board.json").exists()
    key = tmp_path / ".lab" / "red" / "secrets" / "board.key"
    assert key.stat().st_mode & 0o777 == 0o600
    again = certificate_files(tmp_path / ".lab" / "red", parse_address("127.0.0.2"))
    assert again[1] == key
