"""Promotion without a human, as the controller sees it: db.autopromote, and learning of one.

While nobody looked, the lab may have promoted by itself. `adopt` brings the record up to date from
the machines before a command would undo that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from provision.core import state as records
from provision.core.errors import HostError, LabError, UsageError
from provision.core.state import State
from provision.database.failover import role
from provision.database.failover.agent.witness import WORD
from provision.database.servers import call, typed
from provision.engine.context import Context
from provision.engine.converge import converge
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.engine.plan import plan, questions


@dataclass(frozen=True)
class Autopromotion:
    """How it stands.

    Args:
        on: as recorded.
        supervisor: the machine of the third party; empty when the lab has no place for one.
        active: by machine, systemd's word on its part.
        primary: who leads, as the supervisor knows.
        promotable: the machine that would be promoted now; empty: none.
        order: whether the replica has been told to lead, and has not said what became of it.
    """

    on: bool
    supervisor: str = ""
    active: Mapping[str, str] | None = None
    primary: str = ""
    promotable: str = ""
    order: bool = False

    @property
    def sentence(self) -> str:
        """For people."""
        if not self.on:
            return "automatic promotion is off"
        if self.order:
            return "automatic promotion is on: the replica has been told to take over"
        if self.promotable:
            return f"automatic promotion is on: {self.promotable} is promotable"
        return "automatic promotion is on, but nobody is promotable now"


def understand(seen: Mapping[str, Mapping[str, Any]], state: State) -> State:
    """The record after what the database machines said of themselves. A pure function.

    A machine whose own record names it in a later epoch has been promoted, even if it does not
    take writes yet or has just been restarted.

    Args:
        seen: by machine, what `mysql_ops.look` found.
        state: the record.

    Raises:
        LabError: when what they say does not fit together.
    """
    own = [one["own"] for one in seen.values() if one["own"]["answered"]]
    records_ = {name: one["record"] for name, one in seen.items() if one.get("record")}
    claims = {
        name: int(each["epoch"])
        for name, each in records_.items()
        if each["primary"] == name and int(each["epoch"]) > state.epoch
    }
    if not claims:
        return state
    writable = [one["name"] for one in own if one["writable"]]
    known = max([0, *(int(one["epoch"]) for one in own)])
    new, epoch = max(claims.items(), key=lambda claim: claim[1])
    if len(claims) > 1 or any(name != new for name in writable) or known > epoch:
        raise LabError(
            f"who is primary cannot be told: {', '.join(claims)} recorded in a later epoch, "
            f"{', '.join(writable) or 'nobody'} takes writes, the highest epoch known is {known}",
            "invoke db.autopromote status; lab-autopromote.service on each machine says more",
        )
    return replace(state, primary=new, epoch=epoch)


def adopt(context: Context, fleet: Fleet) -> Context:
    """Bring the record up to date with a promotion that the lab made by itself.

    Raises:
        LabError: when the machines contradict each other.
    """
    if not context.state.autopromote:
        return context

    def look(host: Host) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = call(host, "look", 15, machine=host.name)
        except HostError as error:
            return {"own": {"answered": False, "error": error.what}}
        return found

    names = [m.name for m in context.lab.with_role("mysql") if m.name in fleet.hosts]
    found = understand(fleet.each(look, names), context.state)
    if found == context.state:
        return context
    written = records.change(context.lab.directory, primary=found.primary, epoch=found.epoch)
    return replace(context, state=written)


def switch(context: Context, fleet: Fleet, on: bool) -> Context:
    """Turn it on or off: recorded, and configured at once.

    Raises:
        UsageError: when the lab has no place for three parties.
        LabError: when a machine could not be configured.
    """
    third = role.supervisor(context.lab)
    if on and third is None:
        raise UsageError(
            "automatic promotion takes two databases and a balancer on a machine of its own",
            "the topologies distributed, secured and scaled have them",
        )
    # Off is safe without it: an order is nothing without a guard that carries it out.
    if on and third is not None and third.name not in fleet.hosts:
        raise LabError(f"{third.name} does not run", typed(context, "lab.up"))
    context = adopt(context, fleet)
    after = replace(context, state=records.change(context.lab.directory, autopromote=on))
    failed = [o for o in converge(after, fleet).values() if o.error is not None]
    if failed:
        raise LabError("\n\n".join(str(o.error) for o in failed))
    return after


def stand_down(context: Context, fleet: Fleet) -> Context:
    """Turn it off for a change of design that takes one of its three parties away.

    Recorded, and its service is removed from the machines that run: first the supervisor, whose
    orders the guards obey, then the guards. Nothing else is configured.

    Raises:
        LabError: when a machine does not do it.
    """
    context = adopt(context, fleet)
    after = replace(context, state=records.change(context.lab.directory, autopromote=False))
    for machine in role.parties(context.lab):
        if machine.name in fleet.hosts:
            host = fleet.host(machine.name)
            for unit in role.units(after, machine):
                planned = plan(host.name, [unit], host.gather(questions([unit]).asked)).units[0]
                if planned.empty:
                    continue
                answer = host.call("unit", planned.request())
                if not answer["ok"]:
                    raise LabError(
                        f"{host.name}: {unit.name} failed: {answer['error']}",
                        typed(context, "lab.up") + " tries again",
                        output=answer["output"],
                    )
    return after


def status(context: Context, fleet: Fleet) -> Autopromotion:
    """How it stands, asked on the machines."""
    third = role.supervisor(context.lab)
    if not context.state.autopromote or third is None:
        return Autopromotion(context.state.autopromote, third.name if third else "")
    parties = [machine.name for machine in role.parties(context.lab)]

    def active(host: Host) -> str:
        try:
            return host.run("systemctl", "is-active", role.SERVICE).out.strip()
        except HostError as error:
            return error.what

    found = fleet.each(active, [name for name in parties if name in fleet.hosts])
    known: dict[str, Any] = {}
    if third.name in fleet.hosts:
        try:
            done = fleet.host(third.name).run("cat", WORD)
            known = json.loads(done.out) if done.ok else {}
        except (HostError, ValueError):
            known = {}
    primary = str(known.get("primary", ""))
    others = [m.name for m in context.lab.with_role("mysql") if m.name != primary]
    promotable = others[0] if known.get("promotable") and len(others) == 1 else ""
    return Autopromotion(
        True,
        third.name,
        {name: found.get(name, "it does not run") for name in parties},
        primary,
        promotable,
        bool(known.get("order")),
    )
