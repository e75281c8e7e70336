"""A Debian archive on the loopback interface."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from provision.core.pool.pool import Pool

DEB = b"!<arch>\ndebian-binary"
LIST = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSuite: stable\nSHA256:\n"
HASH = hashlib.sha256(b"Package: a\n").hexdigest()
BY_HASH = f"dists/trixie/main/binary-amd64/by-hash/SHA256/{HASH}"


@dataclass
class Archive:
    """`files` by path below the archive; `short`: every download ends early."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    short: bool = False


@pytest.fixture
def archive() -> Iterator[Archive]:
    made = Archive()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.requests.append(self.path)
            data = made.files.get(self.path.removeprefix("/debian/"))
            if data is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(data) + (10 if made.short else 0)))
            self.send_header("Last-Modified", "Sat, 01 Nov 2025 10:00:00 GMT")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}/debian"
    made.files = {
        "dists/trixie/InRelease": LIST,
        "pool/main/a/a_1.deb": DEB,
        BY_HASH: b"Package: a\n",
    }
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def pool(archive: Archive, tmp_path: Path) -> Pool:
    return Pool(tmp_path / "pool", archive.url)
