"""Machines that were there before the lab: what they were is kept, and brought back.

Packages that the lab installed go, with what they brought along; packages that were there before
stay, also those that were replaced by newer ones (Debian cannot go back to an older C library).
Accounts that packages made for their services stay too: Debian leaves them, so that no number is
given twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from provision import registry as roles
from provision.core.errors import LabError
from provision.core.lab import Machine
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host

DATA = (
    "/etc/foobar-lab",
    "/etc/haproxy",
    "/etc/mysql",
    "/etc/nginx",
    "/usr/local/lib/foobar-lab",
    "/var/lib/mysql",
    "/var/lib/mysql-files",
    "/var/lib/mysql-keyring",
    "/var/log/mysql",
    "/var/log/nginx",
)
"""Folders that services make, beside what the roles declare; with packages purged, they stay."""


@dataclass(frozen=True)
class Cleaning:
    """What cleaning one machine means.

    Args:
        machine: its name.
        known: False when nothing is recorded of what was there before; then nothing can be done.
        purge: packages that go.
        stay: packages that are newer than before and stay so, with their versions.
        remove: files and folders that go.
        restore: files that get back the content they had.
        users: accounts that go.
    """

    machine: str
    known: bool
    purge: tuple[str, ...] = ()
    stay: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()
    users: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The plan, for people."""
        if not self.known:
            return [f"{self.machine}: the lab has changed nothing there"]
        parts = (
            ("packages that go", self.purge, " "),
            ("removed", self.remove, "\n      "),
            ("as it was before", self.restore, "\n      "),
            ("accounts that go", self.users, " "),
            ("newer than before, and stay", self.stay, ", "),
        )
        shown = [f"  {title}:\n      {sep.join(what)}" for title, what, sep in parts if what]
        return [f"{self.machine}:", *(shown or ["  nothing is left of the lab there"])]


def touched(context: Context, machine: Machine) -> tuple[list[str], list[str]]:
    """The paths and the accounts that the machine's units are about."""
    paths: set[str] = set(DATA)
    users: set[str] = set()
    for unit in roles.desired(context, machine):
        for resource in unit.resources:
            asked = resource.question()
            if resource.kind in ("path", "tree"):
                paths.add(str(asked["path"]))
            elif resource.kind == "user":
                users.add(str(asked["name"]))
    return sorted(paths), sorted(users)


def remember(context: Context, fleet: Fleet) -> None:
    """Have every machine keep what is there now, of all that is about to be changed.

    Raises:
        LabError: when a machine could not; nothing is changed then.
    """

    def one(host: Host) -> None:
        paths, users = touched(context, context.lab.machine(host.name))
        _do(host, {"do": "remember", "paths": paths, "users": users}, "keeping what is there")

    fleet.each(one)


def plan(context: Context, fleet: Fleet) -> tuple[Cleaning, ...]:
    """What cleaning would do, machine by machine; nothing is changed."""

    def one(host: Host) -> Mapping[str, Any]:
        question = {"packages": _names(context, context.lab.machine(host.name))}
        answer: Mapping[str, Any] = host.gather({"originals": [question]}, 180)["originals"][0]
        return answer

    return tuple(understand(name, answer) for name, answer in fleet.each(one).items())


def understand(machine: str, answer: Mapping[str, Any]) -> Cleaning:
    """A machine's answer as a plan."""
    if not answer["known"]:
        return Cleaning(machine, False)
    parts = {key: tuple(map(str, value)) for key, value in answer.items() if key != "known"}
    return Cleaning(machine, True, **parts)


def clean(context: Context, fleet: Fleet, machines: Sequence[str]) -> None:
    """Bring those machines back to what they were.

    Raises:
        LabError: when one could not be; doing it again goes on.
    """

    def one(host: Host) -> None:
        machine = context.lab.machine(host.name)
        action = {
            "do": "clean",
            "packages": _names(context, machine),
            "services": list(roles.services(machine)),
        }
        _do(host, action, "cleaning")
        host.say("as it was")

    fleet.each(one, machines)


def _names(context: Context, machine: Machine) -> list[str]:
    wanted = roles.packages(context, machine)
    return sorted({*wanted.packages, *wanted.sid})


def _do(host: Host, action: Mapping[str, Any], doing: str) -> None:
    host.say(doing)
    answer = host.call("unit", {"actions": [action], "due": False}, 1200)
    if not answer["ok"]:
        raise LabError(
            f"{host.name}: {doing} failed: {answer['error']}",
            "mend what it says, then type the same again",
            output=answer["output"],
        )
