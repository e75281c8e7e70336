"""Terminals over WebSockets to real SSH servers on loopback."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from provision.board.limits import SCROLLBACK_BYTES, TERMINALS_PER_LAB
from provision.board.scrollback import Scrollback
from provision.board.sockets import GONE, REFUSED
from provision.board.terminal import clamped
from tests.unit.board.rooms import RunningBoard, Shell


def closed_with(socket: ClientConnection) -> int:
    """The close code."""
    try:
        while True:
            socket.recv(10)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 0


def test_what_is_typed_reaches_the_machine_of_the_team(board: RunningBoard) -> None:
    with board.shell("red") as shell:
        shell.type("echo $((20 + 22)); pwd\r")
        shell.wait_for("42\r\n").wait_for("machines/red/web-01\r\n")
        shell.type("printf 'größer \\303'; printf '\\244\\n'\r")
        shell.wait_for("größer ä")


def test_the_size_is_that_of_the_page(board: RunningBoard) -> None:
    with board.shell("red") as shell:
        shell.type("stty size\r")
        shell.wait_for("30 100")
        shell.send(type="resize", columns=132, rows=43)
        shell.wait(lambda s: s.state.get("columns") == 132)
        shell.type("stty size\r")
        shell.wait_for("43 132")


def test_a_lost_connection_goes_on_where_it_was(board: RunningBoard) -> None:
    client = board.client("red")
    with board.shell("red") as shell:
        identity = shell.identity  # type: ignore[attr-defined]
        shell.type("A=kept; sleep 0.6; echo after the pause\r")
        shell.wait_for("after the pause\r")  # the echo
        position, before = shell.position, shell.text
    time.sleep(1.0)
    with client.socket("/ws/terminal", id=identity, **{"from": position}) as socket:
        again = Shell(socket)
        assert again.start == position
        again.wait_for("after the pause\r\n")
        assert b"A=kept" not in again.text, before
        again.type("echo $A\r")
        again.wait_for("\r\nkept\r\n")
    with client.socket("/ws/terminal", id=identity) as socket:
        whole = Shell(socket).wait_for("\r\nkept\r\n")
        assert whole.text.startswith(before)


def test_output_that_nobody_reads_is_bounded_and_nothing_is_lost(board: RunningBoard) -> None:
    """Without a browser the program waits, as on a terminal that does not read."""
    client = board.client("red")
    with board.shell("red") as shell:
        identity = shell.identity  # type: ignore[attr-defined]
        shell.type("seq 1 200000; echo end\r")
        shell.wait_for("\r\n1000\r\n")
        position = shell.position
    time.sleep(1.0)
    terminal = board.board.terminals.find(identity, ["red"])
    assert terminal.end - position < SCROLLBACK_BYTES
    with client.socket("/ws/terminal", id=identity, **{"from": position}) as socket:
        again = Shell(socket)
        assert again.start == position
        again.wait_for("\r\nend\r\n", 60)
        assert again.gaps == 0
        numbers = [int(line) for line in (shell.text + again.text).split() if line.isdigit()]
        assert numbers[-200000:] == list(range(1, 200001))


def test_a_browser_that_does_not_acknowledge_gets_a_bounded_amount(board: RunningBoard) -> None:
    with board.shell("red") as shell:
        shell._acknowledge = False
        shell.type("seq 1 100000\r")
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            shell.receive()
        assert len(shell.text) < SCROLLBACK_BYTES
        shell.send(type="ack", position=shell.position)
        before = len(shell.text)
        shell.wait(lambda s: len(s.text) > before)


def test_another_team_finds_no_terminal(board: RunningBoard) -> None:
    with board.shell("red") as shell:
        identity = shell.identity  # type: ignore[attr-defined]
        blue = board.client("blue")
        for wrong in (identity, "", "x" * 4000):
            with blue.socket("/ws/terminal", id=wrong) as socket:
                assert closed_with(socket) == GONE
        assert blue.request("POST", "/api/terminals/close", {"id": identity})[0] == 409
        shell.type("echo still here\r")
        shell.wait_for("\r\nstill here")
        with blue.socket("/ws/lab") as socket:
            document = json.loads(socket.recv(10))
            assert (document["lab"], document["terminals"]) == ("blue", [])
        with blue.socket("/ws/lab", team="red") as socket:
            assert closed_with(socket) == REFUSED
        with blue.socket("/ws/class") as socket:
            assert closed_with(socket) == REFUSED


def test_the_teacher_watches_and_types_only_when_invited(board: RunningBoard) -> None:
    teacher = board.client()
    with board.shell("red") as shell:
        identity = shell.identity  # type: ignore[attr-defined]
        with teacher.socket("/ws/terminal", id=identity) as socket:
            watching = Shell(socket)
            watching.wait(lambda s: s.state.get("writable") is False)
            shell.wait(lambda s: s.state.get("watched") is True)
            watching.type("echo intruder\r")
            watching.send(type="invite", on=True)
            watching.send(type="resize", columns=20, rows=5)
            shell.type("echo watched\r")
            watching.wait_for("\r\nwatched")
            assert b"intruder" not in watching.text
            assert (watching.state["columns"], watching.state["invited"]) == (100, False)
            shell.send(type="invite", on=True)
            watching.wait(lambda s: s.state.get("writable") is True)
            watching.type("echo together\r")
            shell.wait_for("\r\ntogether")
            shell.send(type="invite", on=False)
            watching.wait(lambda s: s.state.get("writable") is False)
        shell.wait(lambda s: s.state.get("watched") is False)
    status, _, body = teacher.request(
        "POST", "/api/terminals", {"team": "red", "machine": "web-01"}
    )
    assert (status, b"belongs to a team" in body) == (400, True)


def test_a_shell_that_ends_and_a_machine_that_dies(tmp_path: Path) -> None:
    running = RunningBoard(tmp_path, ("red",))
    try:
        with running.shell("red") as shell:
            shell.type("exit\r")
            shell.wait(lambda s: "ended" in s.state.get("ended", ""))
        with running.shell("red", "web-02") as shell:
            running.providers["red"].machines["web-02"].drop()
            shell.wait(lambda s: "connection to web-02 was lost" in s.state.get("ended", ""))
        running.providers["red"].stopped.add("web-02")
        client = running.client("red")
        status, _, body = client.request("POST", "/api/terminals", {"machine": "web-02"})
        assert (status, b"web-02 is not running" in body) == (409, True)
        running.gone.add("red")
        status, _, body = client.request("POST", "/api/terminals", {"machine": "web-01"})
        assert (status, b"there is no lab red" in body) == (409, True)
    finally:
        running.close()


def test_another_host_key_than_the_pinned_one_gets_nothing(tmp_path: Path) -> None:
    running = RunningBoard(tmp_path, ("red",))
    try:
        machines = running.providers["red"].machines
        machines["web-01"].host_key = machines["web-02"].host_key
        client = running.client("red")
        status, _, body = client.request("POST", "/api/terminals", {"machine": "web-01"})
        assert (status, b"presents another host key" in body) == (409, True)
        assert machines["web-01"].logins == 0
    finally:
        running.close()


def test_a_team_has_a_bounded_number_of_terminals(tmp_path: Path) -> None:
    running = RunningBoard(tmp_path, ("red",))
    try:
        client = running.client("red")
        statuses = [
            client.request("POST", "/api/terminals", {"machine": "web-01"})[0]
            for _ in range(TERMINALS_PER_LAB + 2)
        ]
        assert statuses == [201] * TERMINALS_PER_LAB + [409] * 2
        with client.socket("/ws/lab") as socket:
            listed = json.loads(socket.recv(10))["terminals"]
        assert [t["number"] for t in listed] == list(range(1, TERMINALS_PER_LAB + 1))
        client.post("/api/terminals/close", id=listed[0]["id"])
        assert client.request("POST", "/api/terminals", {"machine": "web-01"})[0] == 201
    finally:
        running.close()


@pytest.mark.parametrize("message", ["[]", "x", '"text"', "[" * 5000, "x" * 70000])
def test_a_malformed_message_ends_the_connection_only(board: RunningBoard, message: str) -> None:
    with board.shell("blue", "web-02") as shell:
        identity = shell.identity  # type: ignore[attr-defined]
        shell.socket.send(message)
        assert closed_with(shell.socket) in (REFUSED, 1009)
    with board.client("blue").socket("/ws/terminal", id=identity) as socket:
        again = Shell(socket)
        again.type("echo alive\r")
        again.wait_for("\r\nalive")
    board.client("blue").post("/api/terminals/close", id=identity)


def test_the_scrollback_is_bounded_and_cut_at_a_line() -> None:
    scrollback = Scrollback(100)
    for number in range(100):
        scrollback.append(b"line %d\n" % number)
    position, data = scrollback.read(0, 1000)
    assert position == scrollback.start
    assert len(data) <= 100
    assert data.startswith(b"line ")
    assert data.endswith(b"line 99\n")
    assert scrollback.read(scrollback.end + 50, 10) == (scrollback.end, b"")
    assert scrollback.read(scrollback.end - 3, 2) == (scrollback.end - 3, b"99")


@pytest.mark.parametrize(
    ("columns", "rows", "size"),
    [(100, 30, (100, 30)), (0, -5, (10, 3)), (10**9, 10**9, (500, 200)), ("x", None, (80, 24))],
)
def test_a_size_is_clamped(columns: object, rows: object, size: tuple[int, int]) -> None:
    assert clamped(columns, rows) == size
    assert clamped(float("inf"), 1) == (80, 24)
