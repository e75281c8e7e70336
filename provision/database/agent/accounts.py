"""MySQL's schemas and accounts. Passwords arrive in the request, never as program arguments.

An account carries in its ATTRIBUTE a fingerprint of its definition and a digest of the password
that MySQL stored then. So a password that was changed by hand is detected although MySQL does not
reveal it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator

from provision.database.agent.probes import (
    ACCOUNTS,
    PRIVILEGES,
    RECORDED,
    list_accounts,
    parse_account,
    read_recorded_accounts,
)
from provision.database.agent.session import MysqlError, MysqlSession, connect_local, quote_name
from provision.engine.agent.atomic import write_atomically
from provision.engine.agent.files import Journal
from provision.engine.agent.process import AgentError, Log
from provision.engine.agent.registry import Args, action
from provision.engine.agent.waiting import AgentTimeoutError, wait_until

WRITABLE_SECONDS = 30.0
RECEIVED_SECONDS = 3.0
"""How long a replica may take to receive an account that was corrected on its primary."""

DROPPED = "/var/lib/foobar-lab/dropped-accounts.sql"
"""Definitions of accounts that were dropped; 0600."""

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
    with connect_writable() as session:
        _set_account(session, args, log)


def _set_account(session: MysqlSession, args: Args, log: Log) -> None:
    user, host, password = args["user"], args["host"], args["password"]
    log(f"account {user}")
    try:
        for sql, values in account_statements(user, host, password, args["grants"]):
            session.query(sql, values)
        digest = session.value(
            "SELECT SHA2(authentication_string, 256) FROM mysql.user WHERE user = %s AND host = %s",
            [user, host],
        )
        attribute = json.dumps({"lab": args["fingerprint"], "digest": digest})
        session.query("ALTER USER %s@%s ATTRIBUTE %s", [user, host, attribute])
    except MysqlError as error:
        text = str(error).replace(password, "********")
        raise AgentError(f"account {user} could not be created", text) from None


@action("mysql_replica_account")
def correct_replicated_account(args: Args, journal: Journal, log: Log) -> None:
    """Correct an account on a replica that does not receive the correction from its primary.

    Args:
        args: as for `create_account`.
    """
    user, host = args["user"], args["host"]

    def correct() -> bool:
        facts = parse_account(user, host, session.query(ACCOUNTS), session.query(PRIVILEGES))
        granted = {(item.privilege, item.level) for item in facts.privileges}
        wanted = {(p, level) for text, level in args["grants"] for p in text.split(", ")}
        usable = facts.tls and not facts.locked and not facts.expired
        unchanged = facts.fingerprint == args["fingerprint"] and not facts.password_changed
        return facts.exists and usable and unchanged and granted == wanted

    with connect_local(30.0, wait=WRITABLE_SECONDS) as session:
        try:
            # After a correction on the primary it arrives by replication.
            wait_until(correct, RECEIVED_SECONDS, f"account {user} to be replicated")
        except AgentTimeoutError:
            with _unlogged_writes(session):
                _set_account(session, args, log)


@action("mysql_other_accounts")
def drop_other_accounts(args: Args, journal: Journal, log: Log) -> None:
    """Drop accounts that appeared after the first run, after keeping their definition in `DROPPED`.

    The first run records those that exist already, and drops none.

    Args:
        args: ``known`` and ``local`` accounts as ``user@host``; ``replicated`` as for `Account`;
            ``drop``: whether accounts are recorded and dropped at all.
    """
    connect = connect_local if args["replicated"] else connect_writable
    with connect() as session:
        writes = _unlogged_writes(session) if args["replicated"] else contextlib.nullcontext()
        accounts = list_accounts(session)
        unknown = appeared(accounts.keys() - {*args["known"]}, journal) if args["drop"] else []
        with writes:
            for name in unknown:
                user, _, host = name.rpartition("@")
                _keep_definition(session, user, host)
                if DROPPED not in journal.copies.paths:
                    journal.copies.paths.append(DROPPED)
                log(f"dropping the account {name}; its definition is kept in {DROPPED}")
                session.query("DROP USER IF EXISTS %s@%s", [user, host])
            for name in args["local"]:
                if accounts.get(name) != "auth_socket":
                    user, _, host = name.rpartition("@")
                    log(f"account {name}")
                    _restore_local_account(session, user, host)


def appeared(unknown: set[str], journal: Journal) -> list[str]:
    """The unknown accounts that are not recorded; the first call records all of them."""
    recorded = read_recorded_accounts()
    if recorded is None:
        journal.keep(RECORDED)
        os.makedirs(os.path.dirname(RECORDED), exist_ok=True)
        write_atomically(RECORDED, json.dumps(sorted(unknown)).encode() + b"\n", 0o600)
        return []
    return sorted(unknown - {*recorded})


@contextlib.contextmanager
def _unlogged_writes(session: MysqlSession) -> Iterator[None]:
    """Let this session write on a replica without errant transactions; users still cannot."""
    session.query("SET SESSION sql_log_bin = 0")
    # super_read_only refuses root too (error 1290); read_only stays on.
    session.query("SET GLOBAL super_read_only = OFF")
    try:
        yield
    finally:
        session.query("SET GLOBAL super_read_only = ON")


def _keep_definition(session: MysqlSession, user: str, host: str) -> None:
    lines = [next(iter(session.row("SHOW CREATE USER %s@%s", [user, host]).values()), "")]
    lines += [
        next(iter(r.values()), "") for r in session.query("SHOW GRANTS FOR %s@%s", [user, host])
    ]
    os.makedirs(os.path.dirname(DROPPED), exist_ok=True)
    descriptor = os.open(DROPPED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as file:
        file.writelines(f"{line};\n" for line in lines)


def _restore_local_account(session: MysqlSession, user: str, host: str) -> None:
    """The accounts of Debian's package."""
    for sql in (
        "CREATE USER IF NOT EXISTS %s@%s IDENTIFIED WITH auth_socket",
        "ALTER USER %s@%s IDENTIFIED WITH auth_socket ACCOUNT UNLOCK",
        "GRANT ALL PRIVILEGES ON *.* TO %s@%s WITH GRANT OPTION",
    ):
        session.query(sql, [user, host])
