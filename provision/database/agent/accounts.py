"""On the machine: MySQL's schemas and accounts. Passwords come in the request, never in arguments.

An account carries, in its own ATTRIBUTE, a fingerprint of the definition that made it and a digest
of what MySQL stored for its password then. So a password that was changed by hand is noticed
although nobody can read it.
"""

from __future__ import annotations

import json
import time
from typing import Any

from provision.database.agent.client import Client, MysqlError, local, name, quote
from provision.engine.agent.core import Failed, Say

WRITABLE_SECONDS = 30.0


def writable(say: Say) -> Client:
    """A session on this server once it takes writes (after a restart its role comes back first).

    Raises:
        Failed: when it does not within half a minute.
    """
    deadline = time.monotonic() + WRITABLE_SECONDS
    last = "it is read-only"
    while True:
        try:
            client = local()
            if client.value("SELECT @@global.read_only") == "0":
                return client
            client.close()
        except MysqlError as error:
            last = str(error)
        if time.monotonic() > deadline:
            raise Failed("the database takes no writes here", last)
        time.sleep(0.1)


def schema(args: dict[str, Any], say: Say) -> None:
    """Make a schema with utf8mb4, or mend its collation: ``name``, ``collation``."""
    what = name(args["name"])
    collation = args["collation"]
    say(f"schema {args['name']}")
    with writable(say) as client:
        try:
            client.query(
                f"CREATE DATABASE IF NOT EXISTS {what} CHARACTER SET utf8mb4 COLLATE {collation}"
            )
            client.query(f"ALTER DATABASE {what} CHARACTER SET utf8mb4 COLLATE {collation}")
        except MysqlError as error:
            raise Failed(f"schema {args['name']} could not be made", str(error)) from None


def statements(args: dict[str, Any]) -> list[str]:
    """What makes an account as it should be, whatever it was before. A pure function.

    Args:
        args: ``user``, ``host``, ``password``, ``grants`` (a list of privileges, level pairs).
    """
    who = f"{quote(args['user'])}@{quote(args['host'])}"
    with_password = f"IDENTIFIED WITH caching_sha2_password BY {quote(args['password'])}"
    rules = "REQUIRE SSL PASSWORD EXPIRE NEVER ACCOUNT UNLOCK"
    made = [
        f"CREATE USER IF NOT EXISTS {who} {with_password} {rules}",
        f"ALTER USER {who} {with_password} {rules}",
        f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {who}",
    ]
    return made + [f"GRANT {what} ON {_level(where)} TO {who}" for what, where in args["grants"]]


def _level(where: str) -> str:
    schema_name, _, table = where.partition(".")
    parts = (part if part == "*" else name(part) for part in (schema_name, table))
    return ".".join(parts)


def account(args: dict[str, Any], say: Say) -> None:
    """Make or mend an account, and write its fingerprint into it (see `statements`)."""
    user, host = quote(args["user"]), quote(args["host"])
    say(f"account {args['user']}")
    with writable(say) as client:
        try:
            for statement in statements(args):
                client.query(statement)
            digest = client.value(
                "SELECT SHA2(authentication_string, 256) FROM mysql.user"
                f" WHERE user = {user} AND host = {host}"
            )
            attribute = json.dumps({"lab": args["fingerprint"], "digest": digest})
            client.query(f"ALTER USER {user}@{host} ATTRIBUTE {quote(attribute)}")
        except MysqlError as error:
            text = str(error).replace(args["password"], "********")
            raise Failed(f"account {args['user']} could not be made", text) from None
