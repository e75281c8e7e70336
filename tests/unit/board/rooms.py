"""A board with labs whose machines are SSH servers on loopback: real HTTP, WebSockets, shells."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvicorn
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from provision.board import server
from provision.board.access import BoardRoom, Seat
from provision.board.app import application
from provision.board.board import Board
from provision.board.limits import MESSAGE_BYTES
from provision.commands.show_drill import run_values
from provision.core.endpoint import Endpoint
from provision.core.errors import LabError
from provision.core.lab import Lab
from provision.core.state import State
from provision.operations.session import Session
from tests.sshd import FakeMachine
from tests.unit.samples import context

TEACHER = "TEACH-ERXYZ"


@dataclass
class FakeProvider:
    """Machines that run on loopback."""

    machines: dict[str, FakeMachine]
    name: str = "fake"
    stopped: set[str] = field(default_factory=set)

    def state(self, lab: Lab) -> Mapping[str, str]:
        return {
            m.name: "running"
            if m.name in self.machines and m.name not in self.stopped
            else "halted"
            for m in lab.machines
        }

    def endpoints(self, lab: Lab) -> Mapping[str, Endpoint]:
        return {n: m.endpoint for n, m in self.machines.items() if n not in self.stopped}

    def network_problem(self, lab: Lab) -> str:
        return ""

    def frozen_machines(self, lab: Lab) -> tuple[str, ...]:
        return ()


@dataclass
class Client:
    """A browser's requests, with its cookie."""

    host: str
    cookie: str = ""

    def request(
        self, method: str, path: str, values: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=20)
        own = {"Origin": f"http://{self.host}", "Content-Type": "application/json"}
        if self.cookie:
            own["Cookie"] = self.cookie
        body = json.dumps(values).encode() if values is not None else None
        try:
            connection.request(method, path, body, {**own, **(headers or {})})
            response = connection.getresponse()
            data = response.read()
            kept = {name.lower(): value for name, value in response.getheaders()}
        finally:
            connection.close()
        return response.status, kept, data

    def get(self, path: str, **parameters: str) -> Any:
        status, _, data = self.request("GET", f"{path}?{urlencode(parameters)}")
        assert status == 200, (status, data)
        return json.loads(data)

    def post(self, path: str, status: int = 200, **values: Any) -> Any:
        got, _, data = self.request("POST", path, values)
        assert got == status, (got, data)
        return json.loads(data)

    def login(self, code: str) -> Client:
        status, headers, _ = self.request("POST", "/api/login", {"code": code})
        assert status == 200
        self.cookie = headers["set-cookie"].partition(";")[0]
        return self

    @contextlib.contextmanager
    def socket(
        self, path: str, origin: str = "", headers: dict[str, str] | None = None, **parameters: Any
    ) -> Iterator[ClientConnection]:
        more = {"Cookie": self.cookie} if self.cookie else {}
        with connect(
            f"ws://{self.host}{path}?{urlencode(parameters)}",
            origin=Origin(origin or f"http://{self.host}"),
            additional_headers={**more, **(headers or {})},
            proxy=None,
            max_size=None,
            close_timeout=2,
        ) as socket:
            yield socket


class Shell:
    """A terminal as the page uses it."""

    def __init__(self, socket: ClientConnection, *, acknowledge: bool = True) -> None:
        self.socket = socket
        self.text = b""
        self.state: dict[str, Any] = {}
        self.position = self.start = json.loads(socket.recv(10))["position"]
        self.gaps = 0
        self._acknowledge = acknowledge

    def send(self, **message: Any) -> None:
        self.socket.send(json.dumps(message))

    def type(self, text: str) -> None:
        self.send(type="input", data=text)

    def receive(self, seconds: float = 0.2) -> bool:
        try:
            message = self.socket.recv(seconds)
        except TimeoutError:
            return False
        if isinstance(message, bytes):
            self.text += message
            self.position += len(message)
            if self._acknowledge:
                self.send(type="ack", position=self.position)
        else:
            values = json.loads(message)
            if values["type"] == "gap":
                self.position = values["position"]
                self.gaps += 1
            else:
                self.state = values
        return True

    def wait(self, condition: Callable[[Shell], bool], seconds: float = 15.0) -> Shell:
        deadline = time.monotonic() + seconds
        while not condition(self):
            assert time.monotonic() < deadline, (self.text[-500:], self.state)
            self.receive()
        return self

    def wait_for(self, text: str, seconds: float = 15.0) -> Shell:
        return self.wait(lambda shell: text.encode() in shell.text, seconds)


class RunningBoard:
    """A board on a free port of loopback, in a thread.

    Args:
        folder: takes the place of the checkout.
        teams: each has a lab of the same name with machines web-01 and web-02.
        hosts: further values of Host that are accepted.
    """

    def __init__(
        self,
        folder: Path,
        teams: tuple[str, ...] = ("red", "blue"),
        *,
        free: bool = False,
        hosts: tuple[str, ...] = (),
    ) -> None:
        self.folder, self.teams = folder, teams
        self.providers: dict[str, FakeProvider] = {}
        self.gone: set[str] = set()
        for team in teams:
            machines = {
                name: FakeMachine(name, folder / "machines" / team / name)
                for name in ("web-01", "web-02")
            }
            self.providers[team] = FakeProvider(machines)
            self.directory(team).mkdir(parents=True)
        self.codes = {team: f"{team.upper():A<5}-22222" for team in teams}
        self.room = BoardRoom(
            "Friday",
            tuple(Seat(team, team, self.codes[team]) for team in teams),
            TEACHER,
            b"a key of this test",
            free=free,
        )
        self.board = Board(self.room, lambda run: {**run_values(run)}, folder, self.open_session)
        place = server.ListenAddress(server.parse_address("127.0.0.1"), 0)
        self._listener = server.listen(place)
        self.port = int(self._listener.getsockname()[1])
        self.place = server.ListenAddress(place.address, self.port)
        self.host = self.place.host
        self.cookie = f"lab-board-{self.port}"
        app = application(self.board, self.place.hosts | {*hosts}, secure=False, cookie=self.cookie)
        self.server = uvicorn.Server(
            uvicorn.Config(app, ws="websockets-sansio", ws_max_size=MESSAGE_BYTES, log_config=None)
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self.server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _run(self) -> None:
        asyncio.run(self.server.serve(sockets=[self._listener]))

    def directory(self, team: str) -> Path:
        return self.folder / ".lab" / team

    def open_session(self, name: str) -> Session:
        if name in self.gone:
            raise LabError(f"there is no lab {name} yet", "invoke lab.up")
        sample = context("distributed")
        lab = Lab(name, self.folder, sample.lab.topology)
        state = State(topology="distributed", primary=sample.state.primary, provider="fake")
        return Session(lab, state, self.providers[name])  # type: ignore[arg-type]

    def client(self, team: str = "") -> Client:
        """The browser of a team; without a name, the teacher's."""
        return Client(self.host).login(self.codes[team] if team else TEACHER)

    @contextlib.contextmanager
    def shell(self, team: str, machine: str = "web-01") -> Iterator[Shell]:
        """A new terminal of a team."""
        client = self.client(team)
        identity = client.post("/api/terminals", 201, machine=machine, columns=100, rows=30)["id"]
        with client.socket("/ws/terminal", id=identity) as socket:
            shell = Shell(socket)
            shell.identity = identity  # type: ignore[attr-defined]
            yield shell.wait_for(f"{machine}$ ")

    def close(self) -> None:
        self.server.should_exit = True
        self._thread.join(10)
        self._listener.close()
        for provider in self.providers.values():
            for machine in provider.machines.values():
                machine.close()


class Wire:
    """A connection between browser and board that can be cut, as Wi-Fi is: on its own port."""

    def __init__(self, port: int = 0) -> None:
        self.target = port
        self.cut = False
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.cut:
                    client.close()
                    continue
                server_side = socket.create_connection(("127.0.0.1", self.target))
                self._sockets += [client, server_side]
                for pair in ((client, server_side), (server_side, client)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def drop(self) -> None:
        """Cut all connections; new ones fail until ``cut`` is False again."""
        self.cut = True
        sockets, self._sockets = self._sockets, []
        for end in sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()
