"""The script that tells keepalived whether a balancer may have the virtual address."""

from __future__ import annotations

import http.server
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from provision.engine.context import CONFIGS, environment
from tests.unit.samples import context

Verdict = Callable[..., bool]

SELF, PEER, NEIGHBOR = "127.0.0.1", "127.0.0.2", "127.0.0.3"


@pytest.fixture
def may_have_address(tmp_path: Path) -> Iterator[Verdict]:
    """Runs the script of a balancer whose peers are addresses of the loopback interface."""
    servers: list[http.server.HTTPServer] = []

    def serve(address: str, port: int, status: int) -> int:
        class Ready(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        server = http.server.HTTPServer((address, port), Ready)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server.server_port

    def run(*, own: int, peer: int = 0, holds: bool = False, cut: bool = False) -> bool:
        port = serve(SELF, 0, own) if own else 1
        if peer:
            serve(PEER, port, peer)
        tools = tmp_path / "tools"
        tools.mkdir()
        (tools / "ip").write_text(f"#!/bin/bash\n{'echo holds' if holds else ''}\n")
        # A machine that is cut off gets no reply until the timeout.
        silent = f'[[ "$*" == *{SELF}* ]] || exit 124' if cut else ""
        (tools / "timeout").write_text(f'#!/bin/bash\n{silent}\nshift; exec "$@"\n')
        for tool in tools.iterdir():
            tool.chmod(0o755)
        at = context("scaled")
        script = tmp_path / "check"
        text = environment().get_template("keepalived/check-haproxy.j2")
        script.write_text(
            text.render(
                banner=CONFIGS,
                lab=at.lab,
                port=port,
                path="/ready",
                seconds="0.4",
                interface="eth0",
                peers=[PEER],
                neighbors=[PEER, NEIGHBOR],
            )
        )
        path = f"{tools}:/usr/bin:/bin"
        done = subprocess.run(["bash", str(script)], env={"PATH": path}, check=False, timeout=10)
        return done.returncode == 0

    yield run
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_balancer_with_a_server_may(may_have_address: Verdict) -> None:
    assert may_have_address(own=200, peer=200)


def test_an_haproxy_that_does_not_respond_may_not(may_have_address: Verdict) -> None:
    assert not may_have_address(own=0, holds=True)


def test_a_backup_without_a_server_does_not_take_it(may_have_address: Verdict) -> None:
    assert not may_have_address(own=503, peer=0)


def test_a_holder_without_a_server_gives_it_to_one_that_has(may_have_address: Verdict) -> None:
    assert not may_have_address(own=503, peer=200, holds=True)


@pytest.mark.parametrize("peer", [0, 503])
def test_the_address_stays_where_it_is_when_none_can_serve(
    may_have_address: Verdict, peer: int
) -> None:
    assert may_have_address(own=503, peer=peer, holds=True)


def test_a_holder_that_is_cut_off_gives_it_up(may_have_address: Verdict) -> None:
    assert not may_have_address(own=503, holds=True, cut=True)
