"""MySQL's schemas and accounts. Passwords arrive in the request, never as program arguments.

An account carries in its ATTRIBUTE a fingerprint of its definition and a digest of the password
that MySQL stored then. So a password that was changed by hand is detected although MySQL does not
reveal it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from provision.database.agent.session import MysqlError, MysqlSession, connect_local, quote_name
from provision.engine.agent.files import Journal
from provision.engine.agent.process import AgentError, Log
from provision.engine.agent.registry import Args, action
from provision.engine.agent.waiting import AgentTimeoutError, wait_until

WRITABLE_SECONDS = 30.0

Statement = tuple[str, tuple[str, ...]]
"""SQL and the values of its ``%s``."""


def connect_writable() -> MysqlSession:
    """A session on this server once it is writable (its role is restored after a restart).

    Raises:
        AgentError: when it does not become writable within half a minute.
    """
    error = "it is read-only"

    def connect() -> MysqlSession | None:
        nonlocal error
        try:
            session = connect_local()
            if session.value("SELECT @@global.read_only") == "0":
                return session
            session.close()
        except MysqlError as failure:
            error = str(failure)
        return None

    try:
        return wait_until(connect, WRITABLE_SECONDS, "the database to become writable")
    except AgentTimeoutError:
        raise AgentError("the database is not writable", error) from None


@action("mysql_schema")
def create_schema(args: Args, journal: Journal, log: Log) -> None:
    """Create a schema with utf8mb4, or correct its collation: ``name``, ``collation``."""
    options = f"{quote_name(args['name'])} CHARACTER SET utf8mb4 COLLATE {args['collation']}"
    log(f"schema {args['name']}")
    with connect_writable() as session:
        try:
            session.query(f"CREATE DATABASE IF NOT EXISTS {options}")
            session.query(f"ALTER DATABASE {options}")
        except MysqlError as error:
            raise AgentError(f"schema {args['name']} could not be created", str(error)) from None


def account_statements(
    user: str, host: str, password: str, grants: Iterable[tuple[str, str]]
) -> list[Statement]:
    """Statements that create an account or correct an existing one.

    Args:
        grants: privileges and level, such as ``("SELECT, INSERT", "foobar.*")``.
    """
    rules = (
        "IDENTIFIED WITH caching_sha2_password BY %s"
        " REQUIRE SSL PASSWORD EXPIRE NEVER ACCOUNT UNLOCK"
    )
    account = (user, host)
    return [
        (f"CREATE USER IF NOT EXISTS %s@%s {rules}", (*account, password)),
        (f"ALTER USER %s@%s {rules}", (*account, password)),
        ("REVOKE ALL PRIVILEGES, GRANT OPTION FROM %s@%s", account),
        *(
            (f"GRANT {privileges} ON {_quote_level(level)} TO %s@%s", account)
            for privileges, level in grants
        ),
    ]


def _quote_level(level: str) -> str:
    schema, _, table = level.partition(".")
    return ".".join(part if part == "*" else quote_name(part) for part in (schema, table))


@action("mysql_account")
def create_account(args: Args, journal: Journal, log: Log) -> None:
    """Create or correct an account, and store its fingerprint in it.

    Args:
        args: ``user``, ``host``, ``password``, ``grants``, ``fingerprint``.
    """
    user, host, password = args["user"], args["host"], args["password"]
    log(f"account {user}")
    with connect_writable() as session:
        try:
            for sql, values in account_statements(user, host, password, args["grants"]):
                session.query(sql, values)
            digest = session.value(
                "SELECT SHA2(authentication_string, 256) FROM mysql.user"
                " WHERE user = %s AND host = %s",
                [user, host],
            )
            attribute = json.dumps({"lab": args["fingerprint"], "digest": digest})
            session.query("ALTER USER %s@%s ATTRIBUTE %s", [user, host, attribute])
        except MysqlError as error:
            text = str(error).replace(password, "********")
            raise AgentError(f"account {user} could not be created", text) from None
