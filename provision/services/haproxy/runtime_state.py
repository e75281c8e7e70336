"""The run-time state of HAProxy's servers, which no file shows: weights, drain, maintenance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from provision.engine.plan import Answer, Resource, State

MAINT = 0x01 | 0x02 | 0x04 | 0x20
"""Bits of ``srv_admin_state`` that mean maintenance: forced, inherited, by file, by name
resolution (HAProxy 3.0 management guide, 9.3, "show servers state")."""

DRAIN = 0x08 | 0x10
"""Bits that mean drain: forced, inherited."""


def server_states(text: str, backend: str) -> dict[str, str]:
    """By server: ``drain``, ``maint`` or ``weight N``.

    Args:
        text: the answer to ``show servers state``: a format number, ``#`` and names, rows.
        backend: whose servers.
    """
    rows = [line.split() for line in text.splitlines() if line.strip()]
    names: list[str] = next((row[1:] for row in rows if row[0] == "#"), [])
    found = {}
    for row in rows:
        values = dict(zip(names, row, strict=False))
        if row[0] == "#" or values.get("be_name") != backend or "srv_uweight" not in values:
            continue
        admin, weight = int(values["srv_admin_state"]), int(values["srv_uweight"])
        if admin & MAINT:
            found[values["srv_name"]] = "maint"
        elif admin & DRAIN or weight == 0:
            found[values["srv_name"]] = "drain"
        else:
            found[values["srv_name"]] = f"weight {weight}"
    return found


def orders(backend: str, server: str, state: str) -> list[str]:
    """The runtime commands that put a server into a state (management guide, "set server")."""
    where = f"set server {backend}/{server}"
    if state in ("drain", "maint"):
        return [f"{where} state {state}"]
    return [f"{where} {state}", f"{where} state ready"]


@dataclass(frozen=True)
class ServerStates(Resource):
    """What the running HAProxy does with each server.

    Args:
        socket: its runtime socket.
        backend: the backend's name.
        servers: name and ``drain``, ``maint`` or ``weight N``.
    """

    socket: str
    backend: str
    servers: tuple[tuple[str, str], ...]

    kind: ClassVar[str] = "socket"

    @property
    def name(self) -> str:
        """``servers at run time``."""
        return "servers at run time"

    def question(self) -> dict[str, Any]:
        """One command to the runtime socket."""
        return {"path": self.socket, "line": f"show servers state {self.backend}"}

    def expected(self) -> State:
        """The state of each."""
        return dict(self.servers)

    def actual(self, answer: Answer) -> State:
        """The state of each; of none when HAProxy does not run."""
        if answer["text"].startswith("!"):
            return {}
        return server_states(answer["text"], self.backend)

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Tell it, for those that differ."""
        actual = self.actual(answer)
        wrong = [(name, state) for name, state in self.servers if actual.get(name) != state]
        lines = [line for name, state in wrong for line in orders(self.backend, name, state)]
        return [{"do": "socket", "path": self.socket, "lines": lines}]
