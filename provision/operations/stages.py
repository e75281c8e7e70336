"""From one design to another on the same machines: what a step takes away, and what goes with it.

A step up adds machines, and roles to those that stay. A step down has machines fewer: they are
removed before anything else changes, after somebody has read what is on them and has agreed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from provision.core.errors import LabError
from provision.core.lab import Lab
from provision.core.state import State
from provision.database import servers as database
from provision.engine.context import Context
from provision.engine.fleet import running
from provision.providers.base import Provider
from provision.topology import labs


@dataclass(frozen=True)
class Leaving:
    """A machine that the new topology does not have.

    Args:
        machine: its name.
        roles: what it is; empty when the topology that had it cannot be read any more.
        goes: in words, what is lost with it.
        loses: whether that may be data that no other machine has.
    """

    machine: str
    roles: tuple[str, ...]
    goes: str
    loses: bool = False


@dataclass(frozen=True)
class Step:
    """What a change of topology takes away.

    Args:
        old: the lab as it was, or as it is known.
        leaving: the machines that go.
        between: a stage on the way, when the data has to move to machines that had no database:
            the new one, with a database on the primary of now as well; else None.
    """

    old: Lab
    leaving: tuple[Leaving, ...] = ()
    between: Lab | None = None

    def lines(self) -> list[str]:
        """What goes, for people."""
        width = max((len(each.machine) for each in self.leaving), default=0)
        return [f"  {each.machine:<{width}}  {each.goes}" for each in self.leaving]


def step(new: Lab, recorded: State, provider: Provider) -> Step:
    """What going from the recorded topology to a new one takes away; nothing is changed.

    Args:
        new: the lab as it shall be.
        recorded: what it is now.
        provider: of its machines.

    Raises:
        LabError: when the new topology has no database machine that has the data, and the data
            cannot be moved to one.
    """
    try:
        old, _ = labs.open_lab(new.name, root=new.root)
    except LabError:
        old = new  # its file is gone: what is left of it are strays
    between = transition(old, new, recorded)
    # Vagrant can have one topology at a time, and existing machines may not reach each other.
    if between is None or provider.name != "lxc":
        labs.keeps_data(new, recorded)
        between = None
    stay = {m.name for m in new.machines}
    names = []
    if any(m.name not in stay for m in old.machines):
        states = provider.state(old)
        names = [name for name, word in states.items() if name not in stay and word != "absent"]
    names += [name for name in provider.strays(old) if name not in stay]
    target = new.topology.primary if between else ""
    return Step(old, _leaving(Context(old, recorded), provider, names, target), between)


def transition(old: Lab, new: Lab, recorded: State) -> Lab | None:
    """The stage between two that have no database machine in common.

    It is the new one, and the machine that takes writes now has its database there too. So the new
    databases copy it and follow it; once one of them is promoted, the old one is not needed.

    Args:
        old: the lab as it is.
        new: as it shall be.
        recorded: what is known of it now.

    Returns:
        None when a machine has a database in both, or there is none in one of them.
    """
    before = {m.name for m in old.with_role("mysql")}
    after = {m.name for m in new.with_role("mysql")}
    if recorded.primary not in before or not after or before & after:
        return None
    primary = old.machine(recorded.primary)
    kept = ("mysql", "firewall", "hardening")
    machines = [
        replace(m, roles=(*m.roles, "mysql")) if m.name == primary.name else m for m in new.machines
    ]
    if primary.name not in {m.name for m in machines}:
        machines.append(replace(primary, roles=tuple(r for r in primary.roles if r in kept)))
    return replace(new, topology=replace(new.topology, machines=tuple(machines)))


def _leaving(
    context: Context, provider: Provider, names: Sequence[str], target: str
) -> tuple[Leaving, ...]:
    """What goes with each; ``target`` is where the primary's data moves to first, or empty."""
    roles = {m.name: m.roles for m in context.lab.machines}
    data = [name for name in names if "mysql" in roles.get(name, ())]
    seen = _databases(context, provider) if data else {}
    found = []
    for name in names:
        if name not in roles:
            found.append(Leaving(name, (), "whatever is on it: no topology knows it", True))
        elif target and name == context.state.primary:
            text = f"{', '.join(roles[name])}; all of its data moves to {target} first"
            found.append(Leaving(name, roles[name], text))
        elif name in data:
            found.append(_database(context, name, roles[name], seen.get(name)))
        else:
            found.append(Leaving(name, roles[name], f"{', '.join(roles[name])}; no data"))
    return tuple(found)


def _databases(context: Context, provider: Provider) -> dict[str, database.Database]:
    try:
        with running(context.lab, provider) as fleet:
            return {each.machine: each for each in database.status(context, fleet)}
    except LabError:
        return {}


def _database(
    context: Context, name: str, roles: tuple[str, ...], seen: database.Database | None
) -> Leaving:
    """What of a replica's data the primary has as well."""
    primary = context.state.primary
    what = ", ".join(roles)
    if seen is None or not seen.status.up or seen.missing is None:
        why = "it or the primary does not answer"
        text = f"{what}; its data, and whether {primary} has all of it is not known ({why})"
        return Leaving(name, roles, text, True)
    if seen.errant:
        text = f"{what}; transactions that {primary} does not have: {seen.errant}"
        return Leaving(name, roles, text, True)
    return Leaving(name, roles, f"{what}; a copy of the data, all of which is on {primary}")
