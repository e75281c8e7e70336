"""The databases of a lab: how each is (db.status), and how their machines are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from provision.core.errors import HostError
from provision.core.lab import Machine
from provision.database import role
from provision.database.gtid import subtract
from provision.database.resources import Replication
from provision.database.status import Status
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host

CLONE_TIMEOUT = 1200.0
"""Seconds without a word from a machine that copies all data."""


@dataclass(frozen=True)
class Database:
    """One database machine: how its server is, and what is kept there.

    Args:
        machine: its name.
        role: ``primary`` or ``replica``, as recorded.
        status: of its server.
        backups: those that the machine made by itself.
        next_backup: when the next one is due, in systemd's words.
        errant: transactions that the primary does not have.
        missing: how many of the primary's transactions are not there yet; None when not known.
        error: why it could not be asked.
    """

    machine: str
    role: str
    status: Status
    backups: tuple[Mapping[str, Any], ...] = ()
    next_backup: str = ""
    errant: str = ""
    missing: int | None = None
    error: str = ""

    @property
    def semi_sync(self) -> str:
        """What a commit waits for on the primary now."""
        if self.role != "primary" or not self.status.up:
            return ""
        if self.status.semisync_active:
            return "semi-sync"
        return "async (fallen back: no replica answers)" if self.status.semisync_on else "async"


def status(context: Context, fleet: Fleet) -> tuple[Database, ...]:
    """How every database of the lab is, in the topology's order."""
    errors: dict[str, str] = {}

    def ask(host: Host) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        try:
            answers = host.gather({"mysql": [{"want": "server"}]})["mysql"][0]
            return answers, host.call("mysql", {"do": "backups"})
        except HostError as error:
            errors[host.name] = error.what
            return {"up": False, "error": error.what}, {"backups": [], "next": ""}

    machines = context.lab.with_role("mysql")
    running = [m.name for m in machines if m.name in fleet.hosts]
    answers = fleet.each(ask, running)
    primary = context.state.primary
    executed = Status.read(answers[primary][0]).executed if primary in answers else ""
    found = []
    for machine in machines:
        name = machine.name
        answer, kept = answers.get(name, ({"up": False, "error": "it does not run"}, {}))
        now = Status.read(answer)
        errant, missing = "", None
        if name != primary and now.up and executed:
            errant = str(subtract(now.executed, executed))
            missing = subtract(executed, now.executed).count
        found.append(
            Database(
                name,
                "primary" if name == primary else "replica",
                now,
                tuple(kept.get("backups", ())),
                str(kept.get("next", "")),
                errant,
                missing,
                errors.get(name, "") or ("" if now.up else now.error),
            )
        )
    return tuple(found)


def call(host: Host, operation: str, timeout: float = 60.0, **args: Any) -> Any:
    """Do one of the steps of ``remote/mysql_ops.py`` on a machine."""
    return host.call("mysql", {"do": operation, **args}, timeout)


def following(context: Context, machine: Machine) -> dict[str, Any]:
    """The arguments that make a machine follow the recorded primary."""
    wanted: Replication = role.replication(context, machine)
    (action,) = wanted.actions({})
    return {key: value for key, value in action.items() if key != "do"}


def typed(context: Context, text: str) -> str:
    """The command line of a task, for this lab."""
    option = "" if context.lab.name == "default" else f" --lab {context.lab.name}"
    return f"invoke {text}{option}"
