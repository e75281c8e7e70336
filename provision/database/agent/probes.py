"""On the machine: what MySQL says of itself, asked as root through its local socket.

One session answers all questions of a gather; a server that does not run is an answer too. What
changes a server is in mysql_roles.py and mysql_accounts.py, imported when it is first needed.
"""

from __future__ import annotations

from typing import Any

from provision.database.agent.client import Client, MysqlError, Row, local
from provision.engine.agent.core import ACTIONS, PROBES, Failed, Job, Say
from provision.engine.agent.files import Journal

VARIABLES = (
    "server_uuid",
    "server_id",
    "version",
    "read_only",
    "super_read_only",
    "gtid_executed",
    "gtid_purged",
)
STATUS = (
    "'Uptime', 'Threads_connected', 'Threads_running', 'Rpl_semi_sync_source_status',"
    " 'Rpl_semi_sync_source_clients', 'Rpl_semi_sync_source_no_tx', 'Rpl_semi_sync_source_yes_tx',"
    " 'Rpl_semi_sync_source_no_times', 'Rpl_semi_sync_replica_status'"
)
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


def probe(each: list[dict[str, Any]]) -> Job:
    """Answer questions about the local server.

    Args:
        each: ``want`` is ``server``, ``account`` (with ``user`` and ``host``) or ``schema`` (with
            ``name``). Every answer has ``up`` and ``error`` beside what was asked for.
    """
    yield
    wanted = {one["want"] for one in each}
    try:
        with local(timeout=10.0) as client:
            found = read(client, wanted)
    except MysqlError as error:
        return [{"up": False, "error": str(error)} for _ in each]
    return [{"up": True, "error": ""} | _part(found, one) for one in each]


def read(client: Client, wanted: set[str]) -> dict[str, Any]:
    """Everything of the wanted kinds, in one session."""
    found: dict[str, Any] = {}
    if "server" in wanted:
        found["server"] = server(client)
    if "account" in wanted:
        found["accounts"] = client.query(ACCOUNTS)
        found["privileges"] = client.query(PRIVILEGES)
    if "schema" in wanted:
        found["schemas"] = client.query(SCHEMAS)
    return found


def server(client: Client) -> dict[str, Any]:
    """Role, GTIDs, replication and semi-sync of a server."""
    names = ", ".join(f"@@global.{name} AS {name}" for name in VARIABLES)
    status = {
        row["Variable_name"]: row["Value"]
        for row in client.query(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({STATUS})")
    }
    semi_sync = {
        row["Variable_name"]: row["Value"]
        for row in client.query("SHOW GLOBAL VARIABLES LIKE 'rpl_semi_sync%_enabled'")
    }
    replica = client.row("SHOW REPLICA STATUS")
    stored = (
        "SELECT SHA2(user_password, 256) AS password, heartbeat, connect_retry, retry_count"
        " FROM mysql.slave_master_info"
    )
    return {
        "variables": client.row(f"SELECT {names}") | semi_sync,
        "status": status,
        "replica": replica or None,
        "stored": client.row(stored) if replica else {},
        "epoch": epoch(client),
        "binlog": client.row("SHOW BINARY LOG STATUS"),
    }


def epoch(client: Client) -> Row:
    """The last promotion that the server has seen; empty before the first."""
    try:
        return client.row("SELECT epoch, machine, since FROM lab.epoch ORDER BY epoch DESC LIMIT 1")
    except MysqlError as error:
        if error.code in (1049, 1146):
            return {}
        raise


def _part(found: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    if one["want"] == "account":
        grantee = f"'{one['user']}'@'{one['host']}'"
        who = (one["user"], one["host"])
        account = [row for row in found["accounts"] if (row["user"], row["host"]) == who]
        grants = [row for row in found["privileges"] if row["grantee"] == grantee]
        return {"account": account[0] if account else None, "grants": grants}
    if one["want"] == "schema":
        schema = [row for row in found["schemas"] if row["name"] == one["name"]]
        return {"schema": schema[0] if schema else None}
    server_found: dict[str, Any] = found["server"]
    return server_found


PROBES["mysql"] = probe


def _schema(args: dict[str, Any], journal: Journal, say: Say) -> None:
    from provision.database.agent import accounts as mysql_accounts

    mysql_accounts.schema(args, say)


def _account(args: dict[str, Any], journal: Journal, say: Say) -> None:
    from provision.database.agent import accounts as mysql_accounts

    mysql_accounts.account(args, say)


def _role(args: dict[str, Any], journal: Journal, say: Say) -> None:
    from provision.database.agent import replication as mysql_replica

    mysql_replica.assume(args, say)


def _settle(args: dict[str, Any], journal: Journal, say: Say) -> None:
    from provision.database.agent import data_directory as mysql_data

    mysql_data.settle(args, journal, say)


def operate(args: dict[str, Any], say: Say) -> Any:
    """Do one of the operations in mysql_ops.py.

    Args:
        args: ``do``, its name, and its arguments.
        say: reports progress.

    Raises:
        Failed: when it cannot be done; MySQL's words are the output.
    """
    from provision.database.agent import operations as mysql_ops
    from provision.database.agent import restore as mysql_restore

    try:
        operations = mysql_ops.OPERATIONS | mysql_restore.OPERATIONS
        return operations[args["do"]](args, say)
    except MysqlError as error:
        raise Failed(f"the database could not do it ({args['do']})", str(error)) from None


ACTIONS.update(mysql_settle=_settle, mysql_schema=_schema, mysql_account=_account, mysql_role=_role)
