"""The run-time state of HAProxy's servers (weight, drain, maintenance), which no file contains."""

from __future__ import annotations

from dataclasses import dataclass

from provision.engine.agent.http import SocketReply, socket_probe
from provision.engine.agent.protocol import Action, Probe
from provision.engine.plan import Resource, State
from provision.services.haproxy.interface import BACKEND

MAINT_BITS = 0x01 | 0x02 | 0x04 | 0x20
"""``srv_admin_state``: maintenance that is forced, inherited, from the configuration, or due to
name resolution (HAProxy 3.0 management guide, 9.3, "show servers state")."""

DRAIN_BITS = 0x08 | 0x10
"""``srv_admin_state``: drain that is forced or inherited."""


def parse_server_states(text: str, backend: str) -> dict[str, str]:
    """``drain``, ``maint`` or ``weight N`` by server.

    Args:
        text: the response to ``show servers state``: a format version, ``#`` and column names,
            rows.
    """
    rows = [line.split() for line in text.splitlines() if line.strip()]
    columns: list[str] = next((row[1:] for row in rows if row[0] == "#"), [])
    states = {}
    for row in rows:
        values = dict(zip(columns, row, strict=False))
        if row[0] == "#" or values.get("be_name") != backend or "srv_uweight" not in values:
            continue
        admin, weight = int(values["srv_admin_state"]), int(values["srv_uweight"])
        if admin & MAINT_BITS:
            states[values["srv_name"]] = "maint"
        elif admin & DRAIN_BITS or weight == 0:
            states[values["srv_name"]] = "drain"
        else:
            states[values["srv_name"]] = f"weight {weight}"
    return states


def state_commands(backend: str, server: str, state: str) -> list[str]:
    """The runtime commands that set a server's state (management guide, "set server")."""
    command = f"set server {backend}/{server}"
    if state in ("drain", "maint"):
        return [f"{command} state {state}"]
    return [f"{command} {state}", f"{command} state ready"]


@dataclass(frozen=True)
class ServerStates(Resource[SocketReply]):
    """The state of each server in the running HAProxy.

    Args:
        socket: the path of the runtime socket.
        servers: name and ``drain``, ``maint`` or ``weight N``.
    """

    socket: str
    backend: str
    servers: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        where = "" if self.backend == BACKEND else f" for {self.backend} files"
        return f"servers at run time{where}"

    def probe(self) -> Probe[SocketReply]:
        return socket_probe(self.socket, f"show servers state {self.backend}")

    def expected(self) -> State:
        return dict(self.servers)

    def actual(self, result: SocketReply) -> State:
        """The state of each server; none when HAProxy does not run."""
        return {} if result.error else parse_server_states(result.text, self.backend)

    def unreadable(self, result: SocketReply) -> str:
        return result.error

    def actions(self, result: SocketReply) -> list[Action]:
        actual = self.actual(result)
        lines = [
            command
            for name, state in self.servers
            if actual.get(name) != state
            for command in state_commands(self.backend, name, state)
        ]
        return [Action("socket", {"path": self.socket, "lines": lines})]
