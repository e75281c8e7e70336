"""The relay between apt on a machine and the package pool, over a channel like SSH's."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.core.pool.pool import Pool
from provision.core.waiting import wait_until
from provision.engine import package_relay
from provision.engine.agent import package_relay as relay
from provision.engine.agent import packages
from provision.engine.payload import BOOT
from tests.unit.pool.conftest import DEB, Archive

URL = "http://debian.invalid/debian/pool/main/a/a_1.deb"


class Channel:
    """A Paramiko channel to a local process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def sendall(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "run" / "package-proxy"
    monkeypatch.setattr(packages, "RECORD", str(path))
    return path


@pytest.fixture
def proxy(pool: Pool, record: Path) -> Iterator[str]:
    """The URL of a relay, started as on a machine and answered as by the controller."""
    source = package_relay.PROGRAM.read_text().replace(relay.RECORD, str(record)).encode()
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", BOOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    options = b'["Acquire::Check-Valid-Until=false"]\n'
    process.stdin.write(b"%d\n%s%s" % (len(source), source, options))
    process.stdin.flush()
    port = json.loads(process.stdout.readline())["port"]
    arguments: tuple[Any, ...] = (Channel(process), process.stdout, pool)
    thread = threading.Thread(target=package_relay._answer, args=arguments, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{port}"
    process.stdin.close()
    assert process.wait(10) == 0
    thread.join(10)
    process.stdout.close()
    assert not record.exists(), "the record of a relay ends with it"


def fetch(proxy: str, url: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
    with opener.open(url, timeout=10) as response:
        data: bytes = response.read()
    return data


def test_files_of_every_size(proxy: str, archive: Archive) -> None:
    large = DEB + os.urandom(3_000_000)
    archive.files["pool/main/b/b_1.deb"] = large
    assert fetch(proxy, URL) == DEB
    assert fetch(proxy, URL.replace("a/a_1", "b/b_1")) == large
    archive.files.clear()
    assert fetch(proxy, URL) == DEB, "it was recorded"


def test_what_is_absent_and_what_apt_gives_up(proxy: str, archive: Archive) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        fetch(proxy, URL.replace("a_1", "a_2"))
    assert error.value.code == 404
    error.value.close()
    archive.files["pool/main/b/b_1.deb"] = DEB + bytes(8_000_000)
    port = int(proxy.rpartition(":")[2])
    for _ in range(2):  # apt is killed while it downloads
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            text = "GET http://debian.invalid/debian/pool/main/b/b_1.deb HTTP/1.1\r\n\r\n"
            connection.sendall(text.encode())
            connection.recv(1000)
    assert fetch(proxy, URL) == DEB, "the next request gets its own response"


def test_apt_uses_a_relay_that_lives(proxy: str, record: Path) -> None:
    assert "Acquire::Check-Valid-Until=false" in packages.relay_options()
    assert f"Acquire::http::Proxy={proxy}" in packages.relay_options()


def test_apt_uses_its_own_sources_without_a_relay(record: Path) -> None:
    assert packages.relay_options() == []
    record.parent.mkdir()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        record.write_text(f"{unused.getsockname()[1]}\n")
    wait_until(lambda: packages.relay_options() == [], 5, "the stale record to be ignored")
