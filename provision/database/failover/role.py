"""Promotion without a human (db.autopromote): a supervisor on a balancer, a guard at each database.

Not a role that a topology names: it is on or off as recorded. See ``remote/autopromote.py``.
"""

from __future__ import annotations

from provision.core.lab import Lab, Machine
from provision.database.failover.agent.wire import PORT
from provision.engine.context import Allow, Context, programs
from provision.engine.plan import Unit
from provision.engine.resources import Directory, File, Service, Tree
from provision.engine.resources.removal import NoDirectory, NoFile, NoService

SERVICE = "lab-autopromote.service"
CONFIG = "/etc/foobar-lab/autopromote.json"
CODE = "/usr/local/lib/foobar-lab/autopromote"
KEPT = "/var/lib/foobar-lab"
PARTIES = ("database.failover.agent.guard", "database.failover.agent.witness")


def supervisor(lab: Lab) -> Machine | None:
    """The machine of the third party; None when the lab has no place for one.

    It takes two databases, and a balancer that is neither of them: three machines, a majority.
    """
    databases = lab.with_role("mysql")
    if len(databases) != 2:
        return None
    return next((m for m in lab.with_role("haproxy") if m not in databases), None)


def wanted(context: Context) -> bool:
    """Whether it is on, and this lab has a place for it."""
    return context.state.autopromote and supervisor(context.lab) is not None


def parties(lab: Lab) -> tuple[Machine, ...]:
    """The machines of the three; none when the lab has no place for them."""
    third = supervisor(lab)
    return (third, *lab.with_role("mysql")) if third else ()


def services(context: Context, machine: Machine) -> tuple[str, ...]:
    """Its systemd unit on the machines of the three, while it is on."""
    return (SERVICE,) if wanted(context) and machine in parties(context.lab) else ()


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The third party's part or a guard; where it is off, nothing of it."""
    third = supervisor(context.lab)
    guard = machine != third
    if third is None or machine not in parties(context.lab) or not context.state.autopromote:
        # The guards go after the supervisor: while there is an order, there is who obeys the rules.
        gone = (NoFile(CONFIG), NoService(SERVICE), NoDirectory(CODE))
        after = third is not None and guard and not context.state.autopromote
        needs = (f"{third.name}/autopromote-gone",) if third is not None and after else ()
        return (Unit("autopromote-gone", gone, needs=needs),)
    values: dict[str, object] = {
        "machine": machine.name,
        "address": str(machine.address),
        "secret": context.secrets.password("autopromote"),
    }
    if guard:
        values["supervisor"] = str(third.address)
    else:
        values["databases"] = {m.name: str(m.address) for m in context.lab.with_role("mysql")}
    service = context.render(
        "autopromote/lab-autopromote.service.j2",
        machine,
        guard=guard,
        code=CODE,
        module="guard" if guard else "witness",
        writes="/etc/foobar-lab" if guard else KEPT,
    )
    config = context.render("autopromote/autopromote.json.j2", machine, values=values)
    return (
        Unit(
            "autopromote",
            (
                Directory("/etc/foobar-lab"),
                Directory(KEPT),
                Directory(CODE.rpartition("/")[0]),
                Tree(
                    CODE,
                    programs("database.failover.agent.guard", "database.failover.agent.witness"),
                ),
                File(CONFIG, config, mode="0600", secret=True),
                File(f"/etc/systemd/system/{SERVICE}", service),
                Service(SERVICE),
            ),
            service=SERVICE,
            activate="restart",
        ),
    )


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """The three talk to each other, and the supervisor greets the databases."""
    third = supervisor(context.lab)
    if third is None or not wanted(context):
        return ()
    three = parties(context.lab)
    if machine not in three:
        return ()
    others = tuple(str(m.address) for m in three if m != machine)
    found = [Allow(PORT, others, "automatic promotion")]
    if machine != third:
        found.append(Allow(3306, (str(third.address),), "automatic promotion: is MySQL alive"))
    return tuple(found)
