"""The database: MySQL 9.7 on every machine with this role, one of which takes writes."""

from __future__ import annotations

from provision.core.lab import Machine
from provision.core.package_set import PackageSet
from provision.core.state import State
from provision.database.agent.backup import FOLDER
from provision.database.resources import Account, DataDirectory, Grant, Record, Replication, Schema
from provision.engine.context import Allow, Context, programs
from provision.engine.plan import Resource, Unit
from provision.engine.resources import Directory, File, Service, Tree

SERVICE = "mysql.service"
CONFIG = "/etc/mysql/mysql.conf.d/zz-lab.cnf"
DROP_IN = "/etc/systemd/system/mysql.service.d/lab.conf"
ROLE_SERVICE = "/etc/systemd/system/lab-mysql-role.service"
TIMER = "lab-mysql-backup.timer"
TLS = "/etc/mysql/lab"
RECORD = "/etc/foobar-lab/mysql-role.json"
CHECK = "/etc/foobar-lab/mysql-check.json"
CODE = "/usr/local/lib/foobar-lab/mysql"
"""The programs, so that roles come back without the controller."""

APP, REPL, CHECKER = "foobar_app", "repl", "lab_check"
SCHEMA = "foobar"

SID = (
    "mysql-server",
    "mysql-server-core",
    "mysql-client",
    "mysql-client-core",
    "libc6",
    "libc-bin",
    "libc-gconv-modules-extra",
    "libstdc++6",
    "libgcc-s1",
    "gcc-16-base",
    "libicu78",
    "libgoogle-perftools4t64",
    "libtcmalloc-minimal4t64",
)
"""Oracle's MySQL is in Debian's archive in sid alone; with it, by name, what it is linked to."""


def packages(context: Context, machine: Machine) -> PackageSet:
    """MySQL's server and clients, from sid; the application's migrations run here with pymysql."""
    return PackageSet(("python3-pymysql",), sid=SID)


def server_id(machine: Machine) -> int:
    """MySQL's number for a server, readable: 192.168.56.11 is 56011."""
    *_, third, fourth = machine.address.packed
    return third * 1000 + fourth


def record(context: Context, machine: Machine, state: State | None = None) -> Record:
    """What a machine should know of the databases' roles.

    Args:
        context: the lab.
        machine: whose record it is.
        state: instead of the context's, in the middle of a promotion.
    """
    known = state or context.state
    peers = {m.name: str(m.address) for m in context.lab.with_role("mysql") if m != machine}
    return Record(machine.name, known.primary, known.epoch, peers)


def accounts(context: Context) -> tuple[Account, ...]:
    """Who may log in over the network, and what each may do.

    The root account stays as Debian made it: only root, only through the local socket.
    """
    network = str(context.lab.network)

    def account(user: str, secret: str, *grants: Grant) -> Account:
        return Account(user, network, context.secrets.password(secret), grants)

    return (
        account(
            APP,
            "mysql-app",
            Grant(("SELECT", "INSERT", "UPDATE", "DELETE"), f"{SCHEMA}.*"),
        ),
        account(REPL, "mysql-repl", Grant(("REPLICATION SLAVE", "BACKUP_ADMIN"), "*.*")),
        account(
            CHECKER,
            "mysql-check",
            Grant(("REPLICATION CLIENT",), "*.*"),
            Grant(("SELECT",), "lab.*"),
        ),
    )


def replication(context: Context, machine: Machine) -> Replication:
    """The machine's role among the databases."""
    lab = "" if context.lab.name == "default" else f" --lab {context.lab.name}"
    return Replication(
        record(context, machine),
        REPL,
        context.secrets.password("mysql-repl"),
        rejoin=f"invoke db.rejoin {machine.name}{lab}",
    )


def _guard(context: Context, machine: Machine) -> Unit:
    """What makes the role come back after a start of mysqld, before mysqld is first started."""
    check = context.render(
        "mysql/check.json.j2",
        machine,
        user=CHECKER,
        password=context.secrets.password("mysql-check"),
    )
    return Unit(
        "mysql-role",
        (
            Directory("/etc/foobar-lab"),
            Directory(CODE.rpartition("/")[0]),
            Tree(CODE, programs("database.agent.backup", "database.agent.role")),
            File(CHECK, check, mode="0600", secret=True),
            File(RECORD, record(context, machine).text),
            File(
                ROLE_SERVICE, context.render("mysql/lab-mysql-role.service.j2", machine, code=CODE)
            ),
        ),
    )


def _server(context: Context, machine: Machine) -> Unit:
    """Configuration, certificate and service."""
    certificate, key = context.authority.issue(machine.name, [machine.address], [machine.name])
    config = context.render("mysql/lab.cnf.j2", machine, server_id=server_id(machine), tls=TLS)
    replicas = [m.name for m in context.lab.with_role("mysql") if m.name != context.state.primary]
    waits = context.rolling and machine.name == context.state.primary
    return Unit(
        "mysql",
        (
            DataDirectory(),
            Directory(TLS),
            File(f"{TLS}/ca.pem", context.authority.pem(), "mysql", "mysql"),
            File(f"{TLS}/server.pem", certificate, "mysql", "mysql"),
            File(f"{TLS}/server.key", key, "mysql", "mysql", "0400", secret=True),
            File(CONFIG, config),
            File(DROP_IN, context.render("mysql/mysql.service.j2", machine)),
            Service(SERVICE),
        ),
        service=SERVICE,
        activate="restart",
        validate=("mysqld", "--validate-config"),
        # Servers that serve take up a change one after the other, the primary last.
        needs=tuple(f"{name}/mysql" for name in replicas) if waits else (),
    )


def _backup(context: Context, machine: Machine) -> Unit:
    """The scheduled backup; the machine's record decides whether it is this one's turn."""
    units_folder = "/etc/systemd/system"
    service = context.render("mysql/lab-mysql-backup.service.j2", machine, code=CODE)
    timer = context.render("mysql/lab-mysql-backup.timer.j2", machine)
    return Unit(
        "mysql-backup",
        (
            Directory(FOLDER, mode="0700"),
            File(f"{units_folder}/lab-mysql-backup.service", service, passive=True),
            File(f"{units_folder}/{TIMER}", timer),
            Service(TIMER),
        ),
        service=TIMER,
        activate="restart",
    )


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The server, its role, and on the primary the accounts, which replicas get from there."""
    primary = context.state.primary
    leads = machine.name == primary
    role = Unit(
        "mysql-replication",
        (replication(context, machine),),
        needs=() if leads else (f"{primary}/mysql-accounts",),
    )
    found = [_guard(context, machine), _server(context, machine), role]
    if leads:
        contents: tuple[Resource, ...] = (Schema(SCHEMA), *accounts(context))
        found.append(Unit("mysql-accounts", contents))
    found.append(_backup(context, machine))
    return tuple(found)


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """MySQL for the other databases and for the machines with the application."""
    lab = context.lab
    users = dict.fromkeys([*lab.with_role("mysql"), *lab.with_role("app")])
    sources = tuple(str(m.address) for m in users if m != machine)
    return (Allow(3306, sources, "MySQL for databases and applications"),) if sources else ()


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """No database where the topology wants none; its files stay, for the way back."""
    return (Unit("mysql-gone", (Service(TIMER, running=False), Service(SERVICE, running=False))),)
