"""What a machine reports about its MySQL server, queried as root through the local socket.

A server that does not run is a result too. Changes are in the modules that register actions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from provision.database.agent.server_status import Row, ServerStatus
from provision.database.agent.session import (
    SERVER_LOST,
    MysqlError,
    MysqlSession,
    connect_local,
)
from provision.database.agent.status_query import read_server_status
from provision.engine.agent.filesystem import read_text
from provision.engine.agent.process import AgentError
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, batch_collector, collector

ACCOUNTS = (
    "SELECT user, host, plugin, ssl_type, account_locked, password_expired,"
    " SHA2(authentication_string, 256) AS digest,"
    " JSON_UNQUOTE(JSON_EXTRACT(user_attributes, '$.metadata.lab')) AS lab,"
    " JSON_UNQUOTE(JSON_EXTRACT(user_attributes, '$.metadata.digest')) AS lab_digest"
    " FROM mysql.user WHERE user NOT LIKE 'mysql.%'"
)
PRIVILEGES = (
    "SELECT grantee, '*.*' AS level, privilege_type, is_grantable"
    " FROM information_schema.user_privileges UNION ALL"
    " SELECT grantee, CONCAT(table_schema, '.*'), privilege_type, is_grantable"
    " FROM information_schema.schema_privileges UNION ALL"
    " SELECT grantee, CONCAT(table_schema, '.', table_name), privilege_type, is_grantable"
    " FROM information_schema.table_privileges"
)
SCHEMAS = (
    "SELECT schema_name AS name, default_collation_name AS collation"
    " FROM information_schema.schemata"
)
SECONDS = 4.0
"""For each response of a server whose status is collected; one that is stopped never responds."""

RECORDED = "/var/lib/foobar-lab/mysql-accounts.json"
"""The unknown accounts that existed before the lab first looked; they are left alone."""

STORED = "SELECT SHA2(user_password, 256) FROM mysql.slave_master_info"


@dataclass(frozen=True)
class GrantedPrivilege:
    """One privilege of an account, such as SELECT at the level ``foobar.*``."""

    privilege: str
    level: str
    grantable: bool


@dataclass(frozen=True)
class AccountFacts:
    """An account of MySQL.

    Args:
        tls: whether it may only log in over TLS.
        fingerprint: of the definition that the lab created it with; empty for none.
        password_changed: whether its password is no longer the one that the lab set.
    """

    exists: bool = False
    plugin: str = ""
    tls: bool = False
    locked: bool = False
    expired: bool = False
    fingerprint: str = ""
    password_changed: bool = False
    privileges: tuple[GrantedPrivilege, ...] = ()


@dataclass(frozen=True)
class AccountList:
    """All accounts of a server but MySQL's own.

    Args:
        error: why they are unknown.
        accounts: authentication plugin by ``user@host``; locked ones included.
        recorded: see `read_recorded_accounts`.
    """

    error: str = ""
    accounts: Mapping[str, str] = field(default_factory=dict)
    recorded: tuple[str, ...] | None = None


@dataclass(frozen=True)
class SchemaFacts:
    """Default collation of a schema; empty without a schema."""

    collation: str


def server_probe() -> Probe[ServerStatus]:
    """The status of the machine's server."""
    return Probe("mysql.server", "MySQL server", {}, ServerStatus)


def account_probe(user: str, host: str) -> Probe[AccountFacts]:
    """An account of the machine's server."""
    args = {"user": user, "host": host}
    return Probe("mysql.account", f"MySQL account {user}@{host}", args, AccountFacts)


def account_list_probe() -> Probe[AccountList]:
    """All accounts of the machine's server."""
    return Probe("mysql.accounts", "MySQL accounts", {}, AccountList)


def schema_probe(schema: str) -> Probe[SchemaFacts]:
    """A schema of the machine's server."""
    return Probe("mysql.schema", f"MySQL schema {schema}", {"schema": schema}, SchemaFacts)


@collector("mysql.server")
def collect_server(args: Args) -> ServerStatus:
    """See `server_probe`."""
    try:
        with connect_local(SECONDS) as session:
            status = read_server_status(session, binlog=True)
            if status.replica is None:
                return status
            digest = session.value(STORED)
            return replace(status, replica=replace(status.replica, password_digest=digest))
    except MysqlError as error:
        return ServerStatus(error=str(error))


@batch_collector("mysql.account")
def collect_accounts(batch: Sequence[Args]) -> list[AccountFacts]:
    """See `account_probe`; two queries for all accounts."""
    with connect_local() as session:
        accounts, privileges = session.query(ACCOUNTS), session.query(PRIVILEGES)
    return [parse_account(args["user"], args["host"], accounts, privileges) for args in batch]


@collector("mysql.accounts")
def collect_account_list(args: Args) -> AccountList:
    """See `account_list_probe`.

    Raises:
        MysqlError: when the server accepts the connection and does not respond.
    """
    try:
        with connect_local() as session:
            return AccountList("", list_accounts(session), read_recorded_accounts())
    except MysqlError as error:
        if error.code == SERVER_LOST:
            raise  # it runs, and its accounts are unknown
        return AccountList(str(error))


def read_recorded_accounts() -> tuple[str, ...] | None:
    """``user@host`` of the unknown accounts in `RECORDED`; None without a readable record."""
    try:
        return tuple(map(str, json.loads(read_text(RECORDED))))
    except (OSError, ValueError, TypeError, AgentError):
        return None


def list_accounts(session: MysqlSession) -> dict[str, str]:
    """Authentication plugin by ``user@host``."""
    return {f"{row['user']}@{row['host']}": row["plugin"] or "" for row in session.query(ACCOUNTS)}


def parse_account(
    user: str, host: str, accounts: Iterable[Row], privileges: Iterable[Row]
) -> AccountFacts:
    """One account out of the rows of `ACCOUNTS` and `PRIVILEGES`."""
    row = next((row for row in accounts if (row["user"], row["host"]) == (user, host)), None)
    if row is None:
        return AccountFacts()
    grantee = f"'{user}'@'{host}'"
    granted = (
        GrantedPrivilege(
            str(item["privilege_type"]), str(item["level"]), item["is_grantable"] == "YES"
        )
        for item in privileges
        if item["grantee"] == grantee and item["privilege_type"] != "USAGE"  # "no privileges"
    )
    return AccountFacts(
        exists=True,
        plugin=row["plugin"] or "",
        tls=row["ssl_type"] in ("ANY", "X509", "SPECIFIED"),
        locked=row["account_locked"] == "Y",
        expired=row["password_expired"] == "Y",
        fingerprint=row["lab"] or "",
        password_changed=row["digest"] != row["lab_digest"],
        privileges=tuple(granted),
    )


@batch_collector("mysql.schema")
def collect_schemas(batch: Sequence[Args]) -> list[SchemaFacts]:
    """See `schema_probe`; one query for all schemas."""
    with connect_local() as session:
        collations = {row["name"]: row["collation"] or "" for row in session.query(SCHEMAS)}
    return [SchemaFacts(collations.get(args["schema"], "")) for args in batch]
