"""MySQL's resources: data directory, schemas, accounts, and the server's role in replication."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import ClassVar

from provision.database.agent.probes import (
    AccountFacts,
    AccountList,
    GrantedPrivilege,
    SchemaFacts,
    account_list_probe,
    account_probe,
    schema_probe,
    server_probe,
)
from provision.database.agent.requests import AssumeRole
from provision.database.agent.server_status import ReplicaStatus, ServerStatus
from provision.engine.agent.codec import encode
from provision.engine.agent.files import PathFacts, path_probe
from provision.engine.agent.protocol import Action, Probe
from provision.engine.plan import Difference, Resource, State

LOCAL_ACCOUNTS = ("root@localhost", "debian-sys-maint@localhost")
LOCAL_LOGIN = "auth_socket"
"""Only the system's root may log in, only through the local socket."""

COLLATION = "utf8mb4_0900_ai_ci"
"""MySQL's default for utf8mb4 since 8.0."""


@dataclass(frozen=True)
class DataDirectory(Resource[PathFacts]):
    """MySQL's data directory, prepared once before mysqld starts (see agent/data_directory.py)."""

    path: ClassVar[str] = "/var/lib/foobar-lab/mysql-data"
    mark: ClassVar[str] = "The directories in /var/lib/mysql can be renamed, as CLONE does.\n"

    @property
    def name(self) -> str:
        return "data directory"

    def probe(self) -> Probe[PathFacts]:
        return path_probe(self.path)

    def expected(self) -> State:
        return {"state": "fit for cloning"}

    def actual(self, result: PathFacts) -> State:
        return {"state": "fit for cloning"} if result.content == self.mark else {}

    def actions(self, result: PathFacts) -> list[Action]:
        return [Action("mysql_data_directory", {"content": self.mark})]


@dataclass(frozen=True)
class Schema(Resource[SchemaFacts]):
    """A database with utf8mb4."""

    schema: str
    collation: str = COLLATION

    @property
    def name(self) -> str:
        return f"schema {self.schema}"

    def probe(self) -> Probe[SchemaFacts]:
        return schema_probe(self.schema)

    def expected(self) -> State:
        return {"collation": self.collation}

    def actual(self, result: SchemaFacts) -> State:
        return {"collation": result.collation} if result.collation else {}

    def actions(self, result: SchemaFacts) -> list[Action]:
        return [Action("mysql_schema", {"name": self.schema, "collation": self.collation})]


@dataclass(frozen=True)
class Grant:
    """Privileges at one level.

    Args:
        privileges: such as ``("SELECT", "INSERT")``.
        level: ``*.*``, ``foobar.*`` or ``lab.epoch``.
    """

    privileges: tuple[str, ...]
    level: str

    def __str__(self) -> str:
        return f"{', '.join(sorted(self.privileges))} on {self.level}"


@dataclass(frozen=True)
class Account(Resource[AccountFacts]):
    """An account that logs in with a password over TLS from the lab's network.

    Args:
        host: such as ``192.168.56.0/24`` (MySQL manual, "Specifying Account Names").
        grants: all its privileges.
        replicated: the server is a replica, which normally receives the account from its primary;
            a correction stays out of its binary log.
    """

    user: str
    host: str
    password: str = field(repr=False)
    grants: tuple[Grant, ...]
    replicated: bool = False

    @property
    def runtime(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return f"account {self.user}@{self.host}"

    @property
    def fingerprint(self) -> str:
        """A digest; the password is long and random, so the digest does not reveal it."""
        text = json.dumps(["lab account 1", self.user, self.host, self.password])
        return hashlib.sha256(text.encode()).hexdigest()

    def probe(self) -> Probe[AccountFacts]:
        return account_probe(self.user, self.host)

    def secret_keys(self) -> frozenset[str]:
        return frozenset({"password"})

    def expected(self) -> State:
        return {
            "login": "caching_sha2_password over TLS",
            "password": self.fingerprint,
            "grants": _listed({str(grant) for grant in self.grants}),
        }

    def actual(self, result: AccountFacts) -> State:
        if not result.exists:
            return {}
        fingerprint = "changed by hand" if result.password_changed else result.fingerprint
        return {
            "login": _login(result),
            "password": fingerprint or "unknown",
            "grants": _listed(_grants(result.privileges)),
        }

    def actions(self, result: AccountFacts) -> list[Action]:
        args = {
            "user": self.user,
            "host": self.host,
            "password": self.password,
            "grants": [[", ".join(g.privileges), g.level] for g in self.grants],
            "fingerprint": self.fingerprint,
        }
        return [Action("mysql_replica_account" if self.replicated else "mysql_account", args)]


@dataclass(frozen=True)
class OtherAccounts(Resource[AccountList]):
    """No accounts but the lab's, those of Debian and MySQL for local use, and those before the lab.

    Args:
        accounts: ``user@host`` of the lab's accounts.
        replicated: as for `Account`.
        drop: whether accounts that appear later are dropped.
    """

    accounts: tuple[str, ...]
    replicated: bool = False
    drop: bool = True

    @property
    def runtime(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return "other accounts"

    def probe(self) -> Probe[AccountList]:
        return account_list_probe()

    def expected(self) -> State:
        local = dict.fromkeys(LOCAL_ACCOUNTS, LOCAL_LOGIN)
        return {"unknown": "none", "existing": "recorded", **local} if self.drop else local

    def actual(self, result: AccountList) -> State:
        known = {*self.accounts, *LOCAL_ACCOUNTS, *(result.recorded or ())}
        existing = "unknown" if result.recorded is None else "recorded"
        # Until they are recorded, all accounts are those that existed before.
        appeared = result.accounts.keys() - known if result.recorded is not None else set()
        local = {name: result.accounts.get(name, "") for name in LOCAL_ACCOUNTS}
        return {"unknown": ", ".join(sorted(appeared)) or "none", "existing": existing, **local}

    def differences(self, result: AccountList) -> tuple[Difference, ...]:
        # A server that does not run has no accounts to correct yet.
        return () if result.error else super().differences(result)

    def actions(self, result: AccountList) -> list[Action]:
        args = {
            "known": [*self.accounts, *LOCAL_ACCOUNTS],
            "local": list(LOCAL_ACCOUNTS),
            "replicated": self.replicated,
            "drop": self.drop,
        }
        return [Action("mysql_other_accounts", args)]


def _listed(grants: set[str]) -> str:
    return "; ".join(sorted(grants)) or "nothing"


def _login(account: AccountFacts) -> str:
    text = f"{account.plugin} {'over' if account.tls else 'without'} TLS"
    if account.locked:
        text += ", locked"
    return text + ", expired" if account.expired else text


def _grants(granted: tuple[GrantedPrivilege, ...]) -> set[str]:
    """Privileges as the text that `Grant` has, one per level."""
    levels: dict[str, set[str]] = {}
    for item in granted:
        option = " with grant option" if item.grantable else ""
        levels.setdefault(item.level, set()).add(item.privilege + option)
    return {str(Grant(tuple(privileges), level)) for level, privileges in levels.items()}


@dataclass(frozen=True)
class Replication(Resource[ServerStatus]):
    """A server's role: the primary is writable, all others replicate from it and are read-only."""

    request: AssumeRole

    @property
    def runtime(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return "database role"

    def probe(self) -> Probe[ServerStatus]:
        return server_probe()

    def secret_keys(self) -> frozenset[str]:
        return frozenset({"password"})

    def expected(self) -> State:
        record = self.request.record
        if record.is_primary:
            return {
                "writes": "accepted",
                "epoch": str(record.epoch),
                "source": "none",
                "semi-sync": "source",
            }
        return {
            "writes": "refused",
            "source": f"{record.primary_address} by GTID over TLS",
            "receiving": "running",
            "applying": "running",
            "filters": "none",
            "semi-sync": "replica",
            "password": hashlib.sha256(self.request.account.password.encode()).hexdigest(),
        }

    def actual(self, result: ServerStatus) -> State:
        if not result.up:
            return {"server": f"not running ({result.error})"}
        state = {
            "writes": _writes(result),
            "source": "none",
            "epoch": str(result.epoch or "none"),
            "semi-sync": _semi_sync(result),
        }
        replica = result.replica
        if replica is not None:
            state |= {
                "source": _source(replica),
                "receiving": _thread(replica.io_running, replica.io_error),
                "applying": _thread(replica.sql_running, replica.sql_error),
                "filters": replica.filters or "none",
                "password": replica.password_digest,
            }
        return state

    def unreadable(self, result: ServerStatus) -> str:
        return "" if result.up else result.error

    def actions(self, result: ServerStatus) -> list[Action]:
        return [Action("mysql_role", encode(self.request))]


def _writes(status: ServerStatus) -> str:
    if status.writable:
        return "accepted"
    return "refused" if status.super_read_only else "refused, except those of administrators"


def _thread(running: str, error: str) -> str:
    if running == "Yes":
        return "running"
    state = "stopped" if running == "No" else running.lower()
    return f"{state}: {error}" if error else state


def _source(replica: ReplicaStatus) -> str:
    position = "by GTID" if replica.auto_position else "by file and position"
    transport = "over TLS" if replica.tls_verified else "over unverified TLS"
    text = f"{replica.source} {position} {transport if replica.tls else 'in clear'}"
    return f"{text}, {replica.delay} s behind" if replica.delay else text


def _semi_sync(status: ServerStatus) -> str:
    """Which side is on. The replica's is on everywhere, without effect on a primary."""
    if status.semisync_enabled:
        return "source"
    return "replica" if status.semisync_replica_enabled else "off"
