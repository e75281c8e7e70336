"""Automatic failover (db.autopromote): a witness on a balancer, a guard on each database machine.

The lab's record, not the topology, says whether it is on. See agent/rules.py for how it works.
"""

from __future__ import annotations

from provision.core.lab import Lab, Machine
from provision.database.failover.agent.rejoin_trigger import UNIT
from provision.database.failover.agent.wire import PORT
from provision.database.interface import REPL
from provision.engine.context import Context
from provision.engine.payload import programs
from provision.engine.plan import Unit
from provision.engine.resources import Directory, File, Service, Tree
from provision.engine.resources.removal import NoDirectory, NoFile, NoService
from provision.engine.role import Allow, Role

SERVICE = "lab-autopromote.service"
CONFIG = "/etc/foobar-lab/autopromote.json"
REJOIN = f"/etc/systemd/system/{UNIT}"
"""Makes the old primary a replica after a failover; the guard starts it."""
CODE = "/usr/local/lib/foobar-lab/autopromote"
DATA = "/var/lib/foobar-lab"


def witness(lab: Lab) -> Machine | None:
    """The machine of the witness; None when the lab cannot have automatic failover.

    That takes two databases and a balancer on a third machine, so that two of three are a majority.
    """
    databases = lab.with_role("mysql")
    if len(databases) != 2:
        return None
    return next((m for m in lab.with_role("haproxy") if m not in databases), None)


def enabled(context: Context) -> bool:
    """Whether automatic failover is on, and this lab can have it."""
    return context.state.autopromote and witness(context.lab) is not None


def members(lab: Lab) -> tuple[Machine, ...]:
    """The three machines that vote, the witness first; none when the lab cannot have it."""
    machine = witness(lab)
    return (machine, *lab.with_role("mysql")) if machine else ()


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """Nothing of it. The witness stops first: a guard must run while an order is possible."""
    first = witness(context.lab)
    removed = (NoFile(CONFIG), NoService(SERVICE), NoService(UNIT), NoDirectory(CODE))
    wait = first is not None and machine != first and not context.state.autopromote
    needs = (f"{first.name}/autopromote-gone",) if first is not None and wait else ()
    return (Unit("autopromote-gone", removed, needs=needs),)


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The witness or a guard."""
    voter = witness(context.lab)
    if voter is None:
        return ()
    guard = machine != voter
    values: dict[str, object] = {
        "machine": machine.name,
        "address": str(machine.address),
        "secret": context.secrets.password("autopromote"),
    }
    if guard:
        values["witness"] = str(voter.address)
        values["replication"] = {"user": REPL, "password": context.secrets.password("mysql-repl")}
    else:
        values["databases"] = {m.name: str(m.address) for m in context.lab.with_role("mysql")}
    service = context.render(
        "autopromote/lab-autopromote.service.j2",
        machine,
        guard=guard,
        code=CODE,
        module="guard" if guard else "witness",
        writes="/etc/foobar-lab" if guard else DATA,
    )
    config = context.render("autopromote/autopromote.json.j2", machine, values=values)
    modules = (
        "database.failover.agent.guard",
        "database.failover.agent.rejoin",
        "database.failover.agent.witness",
    )
    rejoin = context.render("autopromote/lab-rejoin.service.j2", machine, code=CODE, data=DATA)
    return (
        Unit(
            "autopromote",
            (
                Directory("/etc/foobar-lab"),
                Directory(DATA),
                Directory(CODE.rpartition("/")[0]),
                Tree(CODE, programs(*modules)),
                File(CONFIG, config, mode="0600", secret=True),
                File(f"/etc/systemd/system/{SERVICE}", service),
                *((File(REJOIN, rejoin),) if guard else ()),
                Service(SERVICE),
            ),
            service=SERVICE,
            activate="restart",
        ),
    )


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """The three report to each other, and the witness probes the databases."""
    voter, voters = witness(context.lab), members(context.lab)
    if voter is None or not enabled(context) or machine not in voters:
        return ()
    others = tuple(str(m.address) for m in voters if m != machine)
    allowed = [Allow(PORT, others, "automatic failover")]
    if machine != voter:
        allowed.append(Allow(3306, (str(voter.address),), "automatic failover: MySQL probe"))
    return tuple(allowed)


ROLES = (
    Role(
        "failover",
        120,
        units,
        absent,
        applies=lambda _role, context, machine: (
            enabled(context) and machine in members(context.lab)
        ),
        ports=ports,
        service=SERVICE,
    ),
)
