"""The health listener: threads of its own, and what it notices."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from foobar import health
from foobar.health import Activity, Board, Listener
from tests.unit.app.fakes import FakeLab

APP = Path(health.__file__).parent.parent


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_process_is_stuck_when_all_its_threads_are_and_none_progresses(clock: Clock) -> None:
    activity = Activity(clock)
    for _ in range(4):
        activity.begin()
    clock.time += health.STUCK_SECONDS
    assert not activity.stuck(4)
    clock.time += 0.1
    assert activity.stuck(4)
    assert not activity.stuck(5)
    activity.end()
    activity.begin()
    assert not activity.stuck(4)


def test_the_board_has_the_state_of_every_process(clock: Clock) -> None:
    board = Board(clock)
    first, second = board.claim(), board.claim()
    clock.time += 60
    assert board.problem() == ""  # both are still starting
    board.write(first, stuck=False)
    board.write(second, stuck=True)
    assert board.problem() == "all threads of a process are stuck"
    board.write(second, stuck=False)
    assert board.problem() == ""
    clock.time += health.SILENT_SECONDS + 0.1
    board.write(first, stuck=False)
    assert board.problem() == "a process does not run"
    board.release(second)
    assert board.problem() == ""
    assert board.claim() == second


def test_a_process_that_stops_is_noticed_by_another_one() -> None:
    clock = Clock()
    board = Board(clock)
    place = board.claim()
    child = os.fork()
    if child == 0:
        board.write(place, stuck=True)
        os._exit(0)
    os.waitpid(child, 0)
    assert board.problem() == "all threads of a process are stuck"


@pytest.mark.parametrize("names", ["foobar.socket:health", "health:foobar.socket"])
def test_the_health_socket_is_taken_from_gunicorn(tmp_path: Path, names: str) -> None:
    script = (
        "import os, socket\n"
        "from foobar import health\n"
        "own = [socket.socket(socket.AF_UNIX) for _ in range(2)]\n"
        "for number, name in enumerate(os.environ['LISTEN_FDNAMES'].split(':')):\n"
        "    own[number].bind(name)\n"
        "    os.dup2(own[number].fileno(), 50 + number)\n"
        "health._FIRST_FD = 50\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "taken = health.take_socket(os.environ)\n"
        "rest = socket.socket(fileno=50).getsockname()\n"
        "print(taken.getsockname(), rest, os.environ['LISTEN_FDS'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"LISTEN_FDS": "2", "LISTEN_FDNAMES": names, "PYTHONPATH": str(APP)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["health", "foobar.socket", "1"]


def test_without_a_health_socket_nothing_is_taken() -> None:
    mine = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "foobar.socket"}
    assert health.take_socket(mine) is None
    assert mine["LISTEN_FDS"] == "1"
    assert health.take_socket({}) is None


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    path = str(tmp_path / "health.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        yield server, path


def ask(path: str, target: str) -> tuple[int, Any]:
    """The status and the body of a response."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(path)
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: www.foobar.com\r\n\r\n".encode())
        reply = b""
        while part := client.recv(65536):
            reply += part
    head, _, body = reply.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    return status, json.loads(body) if b"application/json" in head else body.decode()


def test_the_application_responds_on_the_health_socket(
    lab: FakeLab, listening: tuple[socket.socket, str]
) -> None:
    server, path = listening
    board = Board()
    Listener(server, lab.client().application.wsgi_app, board, None).start()
    status, body = ask(path, "/healthz")
    assert (status, body["status"]) == (200, "ok")
    assert ask(path, "/healthz/write") == (200, {"status": "ok", "server": "web-01"})
    assert ask(path, "/api/notes")[0] == 404
    board.write(board.claim(), stuck=True)
    assert ask(path, "/healthz")[0] == 503


def test_reads_and_writes_have_separate_readiness(lab: FakeLab) -> None:
    lab.primary.up = False
    client = lab.client()
    assert client.get("/healthz").status_code == 200
    response = client.get("/healthz/write")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
    assert response.get_json()["error"] == "no server is writable"


def test_it_responds_while_every_thread_serves_a_visitor(
    listening: tuple[socket.socket, str],
) -> None:
    server, path = listening
    entered, release = threading.Event(), threading.Event()

    def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["QUERY_STRING"]:
            entered.set()
            release.wait(5)
        start_response("200 OK", [])
        return [b"ok"]

    # One thread of the listener waits; the other one responds.
    Listener(server, wsgi, Board(), None).start()
    waiting = threading.Thread(target=ask, args=(path, "/healthz?slow"))
    waiting.start()
    assert entered.wait(5)
    assert ask(path, "/healthz")[0] == 200
    release.set()
    waiting.join(5)
