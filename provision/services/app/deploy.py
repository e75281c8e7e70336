"""Releases of the application: rolled out one server at a time, without losing a request.

A server is drained at run time only and a release is recorded when every server runs it: should
the controller die in between, the next lab.up finds servers that are not as recorded, and brings
the old release and the rotation back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from provision.core.errors import LabError, UsageError
from provision.core.lab import Machine
from provision.engine.context import Context
from provision.engine.converge import UNIT_TIMEOUT
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.engine.plan import Unit, UnitPlan, plan, questions
from provision.engine.resources import Tree
from provision.services.app import releases
from provision.services.app import role as app
from provision.services.app.releases import Release
from provision.services.haproxy.traffic import Busy, Drained, Say

KEPT = 5
"""Releases that stay on a machine, the current one among them."""

PATIENCE = 10.0
"""Seconds in which a server that was just switched must answer for itself."""


def deploy(context: Context, fleet: Fleet, version: str, say: Say, *, migrate: bool = True) -> None:
    """Roll a release out, server by server; record it when all of them run it.

    Args:
        context: the lab.
        fleet: its machines.
        version: a release that `releases.take` has kept.
        say: told what each machine is doing.
        migrate: whether the release's pending migrations run first.

    Raises:
        UsageError: when a machine has another release of that version.
        LabError: when a migration fails (no server was switched then), or a server does not come
            up with the release: it and those before it run the old one again. Nothing is recorded.
    """
    before = releases.current(context)
    machines = context.lab.with_role("app")
    hosts = [fleet.host(machine.name) for machine in machines]
    if not app.kept(context, before).is_dir():
        releases.take(context, app.release_folder(context))
    new = Context(context.lab, replace(context.state, release=version))
    _refuse_another(new, fleet)
    if migrate:
        _migrate(new, fleet, say)
    done: list[Machine] = []
    for machine in machines:
        try:
            _one(new, fleet, machine, say)
        except LabError as error:
            touched = done if isinstance(error, Busy) else [*done, machine]
            left = _all_back(context, fleet, touched, say, before)
            raise LabError(
                f"{version} does not come up on {machine.name}: {error}\n"
                + (left or f"every server runs {before}, as before; nothing was recorded"),
                "invoke lab.up brings the rest back"
                if left
                else "mend the release, and deploy it under a new version",
            ) from None
        done.append(machine)
    releases.remember(context, version)
    for host in hosts:
        _prune(host, releases.history(new), version)


def _all_back(
    context: Context, fleet: Fleet, machines: list[Machine], say: Say, before: str
) -> str:
    """Bring servers back to the old release, the failed one first; says what could not be."""
    left = []
    for machine in reversed(machines):
        say(machine.name, f"going back to {before}")
        try:
            _one(context, fleet, machine, say)
        except LabError as error:
            left.append(f"{machine.name} could not be brought back to {before}: {error.what}")
    return "\n".join(left)


# --- steps ---------------------------------------------------------------------------------------


def _units(context: Context, machine: Machine) -> dict[str, Unit]:
    return {unit.name: unit for unit in app.units(context, machine)}


def _plan(host: Host, unit: Unit) -> UnitPlan:
    return plan(host.name, [unit], host.gather(questions([unit]).asked)).units[0]


def _apply(host: Host, unit: Unit) -> None:
    """Bring one unit about, where it is not as it should be."""
    planned = _plan(host, unit)
    if planned.empty:
        return
    answer = host.call("unit", planned.request(), UNIT_TIMEOUT)
    if not answer["ok"]:
        raise LabError(
            f"{host.name}: {unit.name} failed at step {answer['step']!r}: {answer['error']}",
            output=answer["output"],
        )


def _refuse_another(context: Context, fleet: Fleet) -> None:
    """Whether no machine has a release of this version with other content.

    Raises:
        UsageError: when one has; its files are not exchanged under a process that uses them.
    """
    folder = app.release_folder(context)
    tree = Tree(f"{app.HOME}/releases/{context.state.release}", app.release_files(folder))

    def digest(host: Host) -> str:
        return str(host.gather({"tree": [tree.question()]})["tree"][0]["digest"])

    names = [machine.name for machine in context.lab.with_role("app")]
    for name, found in fleet.each(digest, names).items():
        if found not in ("", tree.digest):
            raise UsageError(
                f"{name} has another release called {context.state.release}",
                "give this one a new number, in its VERSION file or with --version; when nobody "
                "meant to change it there, invoke lab.up mends it",
            )


def _migrate(context: Context, fleet: Fleet, say: Say) -> None:
    """Run the release's pending migrations once, on the primary, before any server switches.

    Raises:
        LabError: when one fails; no server was switched.
    """
    primary = context.primary
    units = _units(context, primary)
    say(primary.name, "looking for migrations")
    host = fleet.host(primary.name)
    try:
        _apply(host, units["release"])
        _apply(host, units["schema"])
    except LabError as error:
        raise LabError(
            f"{error.what}\nno server was switched, and nothing was recorded",
            "mend the migration, and deploy the release under a new version",
            output=error.output,
        ) from None


def _one(context: Context, fleet: Fleet, machine: Machine, say: Say) -> None:
    """Unpack beside the old release; drain, switch, ask directly, put back."""
    host = fleet.host(machine.name)
    version = releases.current(context)
    units = _units(context, machine)
    say(machine.name, f"unpacking {version}")
    _apply(host, units["release"])
    if _plan(host, units["app"]).empty:
        ask_directly(context, host, version)
        Drained(context, fleet, machine, say).put_back()
    else:
        with Drained(context, fleet, machine, say):
            say(machine.name, f"switching to {version}")
            _apply(host, units["app"])
            say(machine.name, "asking it directly")
            ask_directly(context, host, version)
    say(machine.name, f"serves {version}")


def ask_directly(context: Context, host: Host, version: str) -> None:
    """Whether a server itself, through its own web server, is fit and runs a version.

    Raises:
        LabError: with what it said.
    """
    machine = context.lab.machine(host.name)
    where: dict[str, Any] = {"host": context.lab.site, "until": 200, "patience": PATIENCE}
    if "nginx" in machine.roles:
        where["address"] = "127.0.0.1"
    else:
        where |= app.directly(context, machine)
    asked = [{**where, "path": path} for path in ("/healthz", "/version")]
    health, told = host.gather({"http": asked}, 60)["http"]
    if health["status"] != 200:
        raise LabError(
            f"{host.name}: /healthz answers {health['status'] or health['error']}",
            output=health["body"],
        )
    for where_said, got in (
        ("/version says", _version(told)),
        ("X-App-Version is", told["headers"].get("x-app-version", "")),
    ):
        if got != version:
            raise LabError(f"{host.name}: {where_said} {got!r}, not {version!r}")


def _version(answer: Mapping[str, Any]) -> str:
    try:
        return str(json.loads(answer["body"])["version"])
    except (ValueError, KeyError, TypeError):
        return ""


# --- what lies on the machines -------------------------------------------------------------------


def superfluous(there: list[str], past: list[str], now: str) -> list[str]:
    """The releases on a machine that need not stay: all but the last `KEPT` that were deployed.

    Args:
        there: versions on the machine, the one unpacked last at the end.
        past: versions in the order in which they were deployed.
        now: the current one.
    """
    latest = [*[v for v in there if v not in past], *[v for v in past if v in there and v != now]]
    return latest[: max(0, len(latest) - (KEPT - 1))]


def _listed(host: Host) -> list[str]:
    """The releases on a machine, the one unpacked last at the end."""
    return host.run("ls", "-1tr", f"{app.HOME}/releases").out.split()


def _prune(host: Host, past: list[str], now: str) -> None:
    whole = [name for name in _listed(host) if ".lab-" not in name]
    old = [f"{app.HOME}/releases/{name}" for name in superfluous(whole, past, now)]
    if old:
        host.run("rm", "-rf", "--", *old)


def find(context: Context, fleet: Fleet) -> tuple[Release, ...]:
    """Every release that is kept, and which machines run it."""

    def look(host: Host) -> str:
        where = app.directly(context, context.lab.machine(host.name))
        return _version(host.gather({"http": [{**where, "path": "/version"}]})["http"][0])

    names = [m.name for m in context.lab.with_role("app") if m.name in fleet.hosts]
    runs = fleet.each(look, names)
    past = releases.history(context)
    versions = (releases.kept(context) | set(runs.values())) - {""}
    order = sorted(versions, key=lambda v: (v in past, past.index(v) if v in past else 0, v))
    return tuple(
        Release(
            version,
            version == past[-1],
            tuple(name for name, running in runs.items() if running == version),
        )
        for version in order
    )
