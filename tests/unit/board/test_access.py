"""Who gets in: codes, cookies, hosts, origins, sizes. Tried over real HTTP and WebSockets."""

from __future__ import annotations

import http.client
import socket as sockets
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from provision.board.access import BoardRoom, Gate, Seat, Throttle, Visitor
from provision.board.limits import BODY_BYTES, LOGIN_FAILURES, LOGIN_SECONDS, SESSION_SECONDS
from tests.unit.board.rooms import TEACHER, Client, RunningBoard

ROOM = BoardRoom(
    "x", (Seat("red", "red", "AAAAA-22222"), Seat("blue", "blue", "BBBBB-33333")), TEACHER, b"key"
)
API = (
    ("GET", "/api/me"),
    ("GET", "/api/drills"),
    ("GET", "/api/explain?topic=server"),
    ("GET", "/api/report"),
    ("GET", "/api/recordings"),
    ("GET", "/api/cast?name=x"),
    ("POST", "/api/act"),
    ("POST", "/api/terminals"),
    ("POST", "/api/terminals/close"),
    ("POST", "/api/recording"),
    ("GET", "/static/board.html"),
    ("GET", "/static/vendor/xterm.mjs"),
    ("GET", "/static/main.js"),
    ("GET", "/nothing"),
)
SOCKETS = ("/ws/lab", "/ws/class", "/ws/terminal")


def test_a_code_opens_one_team() -> None:
    gate = Gate(ROOM)
    assert gate.visitor_of_code("aaaaa22222") == Visitor("red", teacher=False)
    assert gate.visitor_of_code(TEACHER) == Visitor("", teacher=True)
    assert gate.visitor_of_code("AAAAA-22223") is None
    assert gate.visitor_of_code("") is None


def test_a_cookie_is_valid_for_its_team_and_time_only() -> None:
    now = 1000.0
    gate = Gate(ROOM, lambda: now)
    cookie = gate.cookie(Visitor("red", teacher=False))
    assert gate.visitor(cookie) == Visitor("red", teacher=False)
    expires, team, signature = cookie.split(".")
    blue = gate.cookie(Visitor("blue", teacher=False)).split(".")[1]
    teacher = gate.cookie(Visitor("", teacher=True))
    forged = [
        f"{expires}.{blue}.{signature}",
        f"{expires}..{signature}",
        f"{int(expires) + 1}.{team}.{signature}",
        f"{expires}.{team}.{signature[:-1]}",
        f"{expires}.{team}.",
        "",
        "a.b",
        "x.y.z",
        "1.é.z",
        f"{expires}.{'A' * 5000}.{signature}",
    ]
    assert [gate.visitor(value) for value in forged] == [None] * len(forged)
    assert gate.visitor(teacher) == Visitor("", teacher=True)
    now += SESSION_SECONDS + 1
    assert gate.visitor(cookie) is None


def test_a_new_code_ends_the_old_cookies() -> None:
    cookie = Gate(ROOM).cookie(Visitor("red", teacher=False))
    changed = BoardRoom("x", (Seat("red", "red", "CCCCC-22222"),), TEACHER, b"key")
    assert Gate(changed).visitor(cookie) is None
    assert Gate(BoardRoom("x", ROOM.seats, TEACHER, b"other")).visitor(cookie) is None


def test_wrong_codes_are_limited_by_address() -> None:
    now = 0.0
    throttle = Throttle(lambda: now)
    for _ in range(LOGIN_FAILURES):
        assert throttle.wait("a") == 0
        throttle.failed("a")
    assert throttle.wait("a") == LOGIN_SECONDS
    assert throttle.wait("b") == 0
    now += LOGIN_SECONDS
    assert throttle.wait("a") == 0


# --- over the network -----------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), API)
def test_without_a_code_nothing_is_served(board: RunningBoard, method: str, path: str) -> None:
    status, headers, body = Client(board.host).request(
        method, path, {} if method == "POST" else None
    )
    assert status == 401, body
    assert headers["content-security-policy"].startswith("default-src 'none'")


def test_without_a_code_the_page_asks_for_it_and_shows_nothing_else(board: RunningBoard) -> None:
    status, headers, body = Client(board.host).request("GET", "/")
    assert status == 200
    assert b"Code of your team" in body
    for secret in (b"blue", b"Friday", b"main.js", board.codes["red"].encode()):
        assert secret not in body
    assert headers["x-frame-options"] == "DENY"
    assert "'unsafe" not in headers["content-security-policy"]


@pytest.mark.parametrize("path", SOCKETS)
def test_no_websocket_without_a_code_or_from_another_site(board: RunningBoard, path: str) -> None:
    client = Client(board.host)
    with pytest.raises(InvalidStatus), client.socket(path):
        pass
    client = board.client("red")
    for origin in (
        "http://evil.example",
        "null",
        f"https://{board.host}",
        f"http://{board.host}.x",
    ):
        with pytest.raises(InvalidStatus), client.socket(path, origin=origin):
            pass


def test_another_host_name_is_refused(board: RunningBoard) -> None:
    """DNS rebinding: a name of an attacker that resolves to this computer."""
    client = board.client("red")
    names = ["evil.example", f"evil.example:{board.port}", "127.0.0.1", "", f"{board.host}.evil"]
    for name in names:
        status, _, body = client.request(
            "GET", "/api/me", headers={"Host": name, "Origin": f"http://{name}"}
        )
        assert status in (400, 421), (name, body)
        socket = client.socket("/ws/lab", origin=f"http://{name}", headers={"Host": name})
        with pytest.raises(InvalidStatus), socket:
            pass
    status, _, _ = client.request("GET", "/api/me", headers={"Host": f"localhost:{board.port}"})
    assert status == 200


def test_two_host_headers_are_refused(board: RunningBoard) -> None:
    with sockets.create_connection(("127.0.0.1", board.port), 5) as connection:
        request = f"GET / HTTP/1.1\r\nHost: {board.host}\r\nHost: evil.example\r\n\r\n"
        connection.sendall(request.encode())
        assert connection.recv(100).split()[1] in (b"400", b"421")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_request_of_another_site_is_refused(board: RunningBoard, headers: dict[str, str]) -> None:
    client = board.client("red")
    status, _, _ = client.request("POST", "/api/act", {"kind": "hint"}, headers)
    assert status == 403


def test_a_form_of_another_site_cannot_post(board: RunningBoard) -> None:
    client = board.client("red")
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        status, _, _ = client.request("POST", "/api/act", {}, {"Content-Type": kind})
        assert status == 415


def test_the_cookie_is_kept_from_scripts_and_other_sites(board: RunningBoard) -> None:
    _, headers, _ = Client(board.host).request(
        "POST", "/api/login", {"code": board.codes["red"].lower()}
    )
    attributes = headers["set-cookie"].lower()
    assert attributes.startswith(board.cookie)
    for attribute in ("httponly", "samesite=strict", "path=/"):
        assert attribute in attributes


def test_guessing_codes_is_slowed_down(tmp_path: Any) -> None:
    running = RunningBoard(tmp_path, ("red",))
    try:
        client = Client(running.host)
        statuses = [
            client.request("POST", "/api/login", {"code": f"AAAAA-{n:05}"})[0] for n in range(12)
        ]
        assert statuses[:LOGIN_FAILURES] == [403] * LOGIN_FAILURES
        assert statuses[LOGIN_FAILURES:] == [429, 429]
        status, headers, _ = client.request("POST", "/api/login", {"code": running.codes["red"]})
        assert (status, int(headers["retry-after"]) > 0) == (429, True)
    finally:
        running.close()


def test_large_and_malformed_requests_are_refused(board: RunningBoard) -> None:
    client = board.client("red")
    assert client.request("POST", "/api/act", {"kind": "x" * BODY_BYTES})[0] == 413
    wrong: list[Any] = [[], "text", 5, None]
    for values in wrong:
        status, _, _ = client.request("POST", "/api/act", values)
        assert status == 400
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert client.request(method, "/api/act", {})[0] in (405, 501)
    connection = http.client.HTTPConnection(board.host, timeout=10)
    connection.putrequest("POST", "/api/act", skip_host=True)
    for name, value in {
        "Host": board.host,
        "Origin": f"http://{board.host}",
        "Cookie": client.cookie,
        "Content-Type": "application/json",
        "Transfer-Encoding": "chunked",
    }.items():
        connection.putheader(name, value)
    connection.endheaders()
    chunk = b"x" * 32768
    try:
        for _ in range(4):
            connection.send(b"8000\r\n" + chunk + b"\r\n")
        connection.send(b"0\r\n\r\n")
    except OSError:
        pass  # the board has closed the connection
    else:
        assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2f..%2fcommands/board.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/vendor/VERSIONS.txt",
        "/static/",
        "/api/cast?name=../../secrets/id_ed25519",
        "/api/cast?name=20260101T000000-web-01-1.cast",
    ],
)
def test_no_other_file_of_the_controller_is_served(board: RunningBoard, path: str) -> None:
    status, _, body = board.client("red").request("GET", path)
    assert status in (400, 404), body


# --- one team and another -------------------------------------------------------------------------


def test_a_team_sees_nothing_of_another(board: RunningBoard) -> None:
    red = board.client("red")
    me = red.get("/api/me")
    assert (me["teams"], me["free"], me["watches"]) == (["red"], False, False)
    me = board.client().get("/api/me")
    assert (me["teams"], me["free"], me["watches"]) == (["red", "blue"], True, True)
    for path in ("/api/drills", "/api/explain", "/api/recordings", "/api/cast"):
        status, _, body = red.request("GET", f"{path}?team=blue&topic=server&name=x")
        assert (status, b"no team" in body) == (400, True), path
    for path, values in {
        "/api/act": {"kind": "hint", "team": "blue"},
        "/api/terminals": {"machine": "web-01", "team": "blue"},
        "/api/recording": {"team": "red", "on": True},
    }.items():
        status, _, body = red.request("POST", path, values)
        assert status == 400, body
    status, _, _ = red.request("POST", "/api/act", {"kind": "hint", "team": "*"})
    assert status == 400
    assert red.request("GET", "/api/report")[0] == 400


@pytest.mark.parametrize("kind", ["start", "finish", "give-up"])
def test_in_a_class_only_the_teacher_starts_and_ends_drills(board: RunningBoard, kind: str) -> None:
    status, _, body = board.client("red").request("POST", "/api/act", {"kind": kind})
    assert (status, b"only the teacher" in body) == (400, True)


def test_unknown_actions_machines_and_drills_are_refused(board: RunningBoard) -> None:
    red = board.client("red")
    assert red.request("POST", "/api/act", {"kind": "destroy"})[0] == 400
    for machine in ("", "db-09", "../web-01", "127.0.0.1", "-oProxyCommand=x"):
        status, _, body = red.request("POST", "/api/terminals", {"machine": machine})
        assert (status, b"unknown machine" in body) == (409, True)
    status, _, body = red.request("POST", "/api/terminals", {"machine": "lb-01"})
    assert (status, b"lb-01 is not running" in body) == (409, True)
