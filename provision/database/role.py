"""The MySQL role: MySQL 9.7 on every machine with it; one is the primary, the others replicas."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from provision.core import growth
from provision.core.lab import Machine
from provision.core.package_set import PackageSet
from provision.core.waiting import timeout_factor
from provision.database.agent.backup_place import FOLDER, SCHEMA
from provision.database.agent.comparison import SCHEMAS, Comparison, comparison_probe
from provision.database.agent.requests import AssumeRole, ReplicationAccount
from provision.database.agent.role_record import RoleRecord
from provision.database.agent.role_store import RECORD
from provision.database.agent.status_query import CHECK_ACCOUNT
from provision.database.interface import (
    CHECK_USER,
    OWN_ACCOUNT,
    OWN_PASSWORD,
    OWN_SCHEMA,
    REPL,
    TLS_FOLDER,
)
from provision.database.resources import (
    Account,
    DataDirectory,
    Grant,
    OtherAccounts,
    Replication,
    Schema,
)
from provision.database.settings import EffectiveSettings, expected_settings
from provision.engine.agent.protocol import Probe
from provision.engine.context import Context
from provision.engine.payload import programs
from provision.engine.plan import Resource, Unit
from provision.engine.resources import Directory, File, HeldPackages, OwnedDirectory, Service, Tree
from provision.engine.role import Allow, Role, Sandbox, Tier
from provision.services.app.interface import uses_database

LOOPBACK = IPv4Address("127.0.0.1")
SERVICE = "mysql.service"
CONFIG = "/etc/mysql/mysql.conf.d/zz-lab.cnf"
DROP_IN = "/etc/systemd/system/mysql.service.d/lab.conf"
ROLE_SERVICE = "/etc/systemd/system/lab-mysql-role.service"
TIMER = "lab-mysql-backup.timer"
CODE = "/usr/local/lib/foobar-lab/mysql"
"""The programs on the machine: without the controller they restore its role and make backups."""

APP = "foobar_app"

OWN_PRIVILEGES = (
    "ALTER",
    "CREATE",
    "CREATE TEMPORARY TABLES",
    "CREATE VIEW",
    "DELETE",
    "DROP",
    "INDEX",
    "INSERT",
    "LOCK TABLES",
    "REFERENCES",
    "SELECT",
    "SHOW VIEW",
    "UPDATE",
)
"""Of an application of the user's own, in its own schema: what migrations need."""

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
"""Debian has Oracle's MySQL only in sid; the libraries that it is linked to come with it."""


HELD = tuple(name for name in SID if name.startswith("mysql-"))


def packages(context: Context, machine: Machine) -> PackageSet:
    """MySQL's server and clients from sid, and the Python client of agent and migrations."""
    return PackageSet(("python3-pymysql",), sid=SID)


def server_id(machine: Machine) -> int:
    """A readable server_id: 56011 for 192.168.56.11."""
    *_, third, fourth = machine.address.packed
    return third * 1000 + fourth


def record(context: Context, name: str) -> RoleRecord:
    """Who is primary, as a machine records it."""
    peers = {m.name: str(m.address) for m in context.lab.with_role("mysql") if m.name != name}
    return RoleRecord(name, context.state.primary, context.state.epoch, peers)


def assume_role(context: Context, name: str) -> AssumeRole:
    """The request that makes a machine's server what the lab's record says."""
    account = ReplicationAccount(REPL, context.secrets.password("mysql-repl"))
    return AssumeRole(record(context, name), account)


def accounts(context: Context, machine: Machine) -> tuple[Account, ...]:
    """The accounts that log in over the network, with their privileges.

    The root account stays as in Debian: only the system's root, only through the local socket.
    """
    network = str(context.lab.network)
    replicated = machine.name != context.state.primary

    def account(user: str, secret: str, *grants: Grant) -> Account:
        return Account(user, network, context.secrets.password(secret), grants, replicated)

    own = OWN_SCHEMA if uses_database(context) else ""
    compared = (schema for schema in SCHEMAS if own or schema != OWN_SCHEMA)
    return (
        *((account(OWN_ACCOUNT, OWN_PASSWORD, Grant(OWN_PRIVILEGES, f"{own}.*")),) if own else ()),
        account(
            APP,
            "mysql-app",
            Grant(("SELECT", "INSERT", "UPDATE", "DELETE"), f"{SCHEMA}.*"),
            # To notice a server without a source (foobar/watch.py).
            Grant(("REPLICATION CLIENT",), "*.*"),
        ),
        account(
            REPL,
            "mysql-repl",
            Grant(("REPLICATION SLAVE", "BACKUP_ADMIN"), "*.*"),
            # To compare tables; a replica receives all data anyway.
            *(Grant(("SELECT",), f"{schema}.*") for schema in compared),
        ),
        account(
            CHECK_USER,
            "mysql-check",
            Grant(("REPLICATION CLIENT",), "*.*"),
            Grant(("SELECT",), "lab.*"),
        ),
    )


def _role_service(context: Context, machine: Machine) -> Unit:
    """Restores the role after each start of mysqld; installed before mysqld first starts."""
    check = context.render(
        "mysql/check.json.j2",
        machine,
        user=CHECK_USER,
        password=context.secrets.password("mysql-check"),
    )
    return Unit(
        "mysql-role",
        (
            Directory("/etc/foobar-lab"),
            Directory(CODE.rpartition("/")[0]),
            Tree(CODE, programs("database.agent.backup", "database.agent.restore_role")),
            File(CHECK_ACCOUNT, check, mode="0600", secret=True),
            File(RECORD, record(context, machine.name).text),
            File(
                ROLE_SERVICE, context.render("mysql/lab-mysql-role.service.j2", machine, code=CODE)
            ),
        ),
    )


def configuration(context: Context, machine: Machine) -> str:
    """The machine's lab.cnf."""
    return context.render(
        "mysql/lab.cnf.j2", machine, server_id=server_id(machine), tls=TLS_FOLDER, growth=growth
    )


def settings(context: Context, machine: Machine) -> EffectiveSettings:
    """What the variables of the machine's running server must be."""
    values = expected_settings(
        configuration(context, machine), automatic_failover=context.state.autopromote
    )
    return EffectiveSettings(tuple(values.items()))


def replication(context: Context, machine: Machine) -> Replication:
    """What the machine's server is in replication."""
    return Replication(assume_role(context, machine.name))


def all_accounts(context: Context, machine: Machine) -> tuple[Resource[Any], ...]:
    """The lab's accounts on a machine, and no others that appeared after the lab."""
    own = accounts(context, machine)
    names = tuple(f"{account.user}@{account.host}" for account in own)
    # Existing machines may have accounts that are none of the lab's business.
    drop = context.state.provider != "ssh"
    return (*own, OtherAccounts(names, machine.name != context.state.primary, drop))


def compare_with_primary(context: Context) -> Probe[Comparison]:
    """A replica compared with the lab's primary."""
    password = context.secrets.password("mysql-repl")
    return comparison_probe(str(context.primary.address), REPL, password, timeout_factor())


def _server(context: Context, machine: Machine) -> Unit:
    """Configuration, certificate and service of mysqld."""
    # Applications on the machines connect through a local port (services/app/database.py).
    addresses = [machine.address, LOOPBACK]
    certificate, key = context.authority.issue(machine.name, addresses, [machine.name])
    config = configuration(context, machine)
    replicas = [m.name for m in context.lab.with_role("mysql") if m.name != context.state.primary]
    restart_last = context.rolling and machine.name == context.state.primary
    return Unit(
        "mysql",
        (
            DataDirectory(),
            Directory(TLS_FOLDER),
            File(f"{TLS_FOLDER}/ca.pem", context.authority.pem(), "mysql", "mysql"),
            File(f"{TLS_FOLDER}/server.pem", certificate, "mysql", "mysql"),
            File(f"{TLS_FOLDER}/server.key", key, "mysql", "mysql", "0400", secret=True),
            OwnedDirectory("/etc/mysql/conf.d", ("*.cnf",), service=True),
            OwnedDirectory("/etc/mysql/mysql.conf.d", ("*.cnf",), service=True),
            File(CONFIG, config),
            File(DROP_IN, context.render("mysql/mysql.service.j2", machine)),
            Service(SERVICE),
        ),
        service=SERVICE,
        activate="restart",
        validate=("mysqld", "--validate-config"),
        # In a lab that serves, servers restart one after the other, the primary last.
        needs=tuple(f"{name}/mysql" for name in replicas) if restart_last else (),
    )


def _backup(context: Context, machine: Machine) -> Unit:
    """The scheduled backup; only a replica makes one, as the machine's record says."""
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


def accounts_unit(context: Context, machine: Machine) -> Unit:
    """Schemas and accounts on the primary."""
    schemas = (SCHEMA, OWN_SCHEMA) if uses_database(context) else (SCHEMA,)
    contents = all_accounts(context, machine)
    return Unit("mysql-accounts", (*map(Schema, schemas), *contents))


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The server, its role and, on the primary, the accounts, which replicas receive from it."""
    primary = context.state.primary
    is_primary = machine.name == primary
    role = Unit(
        "mysql-replication",
        (replication(context, machine),),
        needs=() if is_primary else (f"{primary}/mysql-accounts",),
    )
    declared = [
        # Otherwise apt removes MySQL for a package that conflicts with it, such as libmariadb3.
        Unit("mysql-packages", (HeldPackages(HELD),)),
        _role_service(context, machine),
        _server(context, machine),
        Unit("mysql-settings", (settings(context, machine),)),
        role,
    ]
    if is_primary:
        declared.append(accounts_unit(context, machine))
    else:
        # A replica receives them; what was changed only here is corrected only here.
        needs = (f"{primary}/mysql-accounts",)
        contents = all_accounts(context, machine)
        declared.append(Unit("mysql-replica-accounts", contents, needs=needs))
    declared.append(_backup(context, machine))
    return tuple(declared)


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """MySQL for the other databases and the machines with the application."""
    lab = context.lab
    clients = dict.fromkeys([*lab.with_role("mysql"), *lab.with_role("app")])
    sources = tuple(str(m.address) for m in clients if m != machine)
    return (Allow(3306, sources, "MySQL for databases and applications"),) if sources else ()


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """Stop MySQL where the topology has none; the data stays on the machine."""
    return (Unit("mysql-gone", (Service(TIMER, running=False), Service(SERVICE, running=False))),)


ROLE = Role(
    "mysql",
    40,
    units,
    absent,
    packages=packages,
    ports=ports,
    memory=190,
    service=SERVICE,
    aliases=("mysqld",),
    label="MySQL",
    tier=Tier("database", lambda _lab: "MySQL over TLS, port 3306"),
    sandbox=Sandbox(
        "it is the user mysql from the start",
        writes="-/run/mysqld /var/lib/mysql -/var/log/mysql",
        # NUMA calls at start; a refusal would be logged as an error each time.
        calls="mbind sched_setaffinity set_mempolicy",
        private_users="yes",
    ),
    fault_units=(SERVICE,),
    data=(
        "/etc/mysql",
        "/var/lib/mysql",
        "/var/lib/mysql-files",
        "/var/lib/mysql-keyring",
        "/var/log/mysql",
    ),
)
