"""What MySQL is made of: schemas, accounts, and a server's role in replication."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from provision.engine.plan import Answer, Resource, State

COLLATION = "utf8mb4_0900_ai_ci"
"""MySQL's default for utf8mb4 since 8.0."""


def _down(answer: Answer) -> State:
    return {"server": f"not running ({answer['error']})"}


@dataclass(frozen=True)
class DataDirectory(Resource):
    """MySQL's data directory, once looked at before mysqld first serves the lab.

    See ``remote/mysql_data.py`` for why.
    """

    kind: ClassVar[str] = "path"
    path: ClassVar[str] = "/var/lib/foobar-lab/mysql-data"
    mark: ClassVar[str] = "The directories in /var/lib/mysql can be renamed, as CLONE does.\n"

    @property
    def name(self) -> str:
        """``data directory``."""
        return "data directory"

    def question(self) -> dict[str, Any]:
        """The mark that says so."""
        return {"path": self.path, "secret": False}

    def expected(self) -> State:
        """Fit for cloning."""
        return {"state": "fit for cloning"}

    def actual(self, answer: Answer) -> State:
        """Whether the mark is there."""
        return {"state": "fit for cloning"} if answer.get("content") == self.mark else {}

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Look at it, with mysqld stopped."""
        return [{"do": "mysql_settle", "content": self.mark}]


@dataclass(frozen=True)
class Schema(Resource):
    """A database with utf8mb4."""

    schema: str
    collation: str = COLLATION

    kind: ClassVar[str] = "mysql"

    @property
    def name(self) -> str:
        """``schema`` and its name."""
        return f"schema {self.schema}"

    def question(self) -> dict[str, Any]:
        """Its name."""
        return {"want": "schema", "name": self.schema}

    def expected(self) -> State:
        """Its collation, which includes the character set."""
        return {"collation": self.collation}

    def actual(self, answer: Answer) -> State:
        """The same of what is there."""
        found = answer["schema"] if answer["up"] else None
        return {"collation": found["collation"]} if found else {}

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Make or alter it."""
        return [{"do": "mysql_schema", "name": self.schema, "collation": self.collation}]


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
class Account(Resource):
    """An account that may log in with a password over TLS from the lab's network.

    Args:
        user: its name.
        host: from where, such as ``192.168.56.0/24`` (the manual, "Specifying Account Names").
        password: never shown.
        grants: everything that it may do.
    """

    user: str
    host: str
    password: str = field(repr=False)
    grants: tuple[Grant, ...]

    kind: ClassVar[str] = "mysql"

    @property
    def name(self) -> str:
        """``account`` and its name."""
        return f"account {self.user}@{self.host}"

    @property
    def fingerprint(self) -> str:
        """A digest of the password; random and long, so the digest gives nothing away."""
        text = json.dumps(["lab account 1", self.user, self.host, self.password])
        return hashlib.sha256(text.encode()).hexdigest()

    def question(self) -> dict[str, Any]:
        """Its name."""
        return {"want": "account", "user": self.user, "host": self.host}

    def secret_keys(self) -> frozenset[str]:
        """What is known of the password."""
        return frozenset({"password"})

    def expected(self) -> State:
        """How it logs in, and what it may do."""
        return {
            "login": "caching_sha2_password over TLS",
            "password": self.fingerprint,
            "grants": _listed({str(grant) for grant in self.grants}),
        }

    def actual(self, answer: Answer) -> State:
        """The same of what is there; a password changed by hand no longer fits its fingerprint."""
        found = answer["account"] if answer["up"] else None
        if not found:
            return {}
        mine = found["lab"] if found["digest"] == found["lab_digest"] else "changed by hand"
        return {
            "login": _login(found),
            "password": mine or "unknown",
            "grants": _listed(_grants(answer["grants"])),
        }

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Make it, or all of it anew."""
        return [
            {
                "do": "mysql_account",
                "user": self.user,
                "host": self.host,
                "password": self.password,
                "grants": [[", ".join(g.privileges), g.level] for g in self.grants],
                "fingerprint": self.fingerprint,
            }
        ]


def _listed(grants: set[str]) -> str:
    return "; ".join(sorted(grants)) or "nothing"


def _login(found: Mapping[str, Any]) -> str:
    tls = " over TLS" if found["ssl_type"] in ("ANY", "X509", "SPECIFIED") else " without TLS"
    marks = [
        word
        for key, word in (("account_locked", "locked"), ("password_expired", "expired"))
        if found[key] == "Y"
    ]
    return str(found["plugin"]) + tls + "".join(f", {mark}" for mark in marks)


def _grants(rows: list[Mapping[str, Any]]) -> set[str]:
    """Rows of information_schema's privilege tables as the text that `Grant` has."""
    levels: dict[str, set[str]] = {}
    for row in rows:
        # USAGE is MySQL's word for no privilege at all.
        if row["privilege_type"] != "USAGE":
            option = " with grant option" if row["is_grantable"] == "YES" else ""
            levels.setdefault(row["level"], set()).add(row["privilege_type"] + option)
    return {str(Grant(tuple(words), level)) for level, words in levels.items()}


@dataclass(frozen=True)
class Record:
    """What a machine knows of the databases' roles (see ``remote/mysql_role.py``).

    Args:
        machine: whose record it is.
        primary: who takes writes.
        epoch: the number of that promotion.
        peers: the other database machines, name to address.
    """

    machine: str
    primary: str
    epoch: int
    peers: Mapping[str, str]

    def values(self) -> dict[str, Any]:
        """As the machine keeps it."""
        return {
            "machine": self.machine,
            "primary": self.primary,
            "epoch": self.epoch,
            "peers": dict(self.peers),
        }

    @property
    def text(self) -> str:
        """The text of its file; ``record_text`` on the machine writes the same."""
        return json.dumps(self.values(), indent=2, sort_keys=True) + "\n"


@dataclass(frozen=True)
class Replication(Resource):
    """A server's role: the primary takes writes, all others replicate from it and take none.

    Args:
        record: who is what.
        user: the account that replicas log in with.
        password: its password.
        rejoin: the command that a person types when a server has transactions of its own.
        drain: seconds for a replica that becomes primary to apply what it has received.
    """

    record: Record
    user: str
    password: str = field(repr=False)
    rejoin: str = "invoke db.rejoin MACHINE"
    drain: float = 60.0

    kind: ClassVar[str] = "mysql"

    @property
    def name(self) -> str:
        """``database role``."""
        return "database role"

    @property
    def leads(self) -> bool:
        """Whether this machine is the primary."""
        return self.record.primary == self.record.machine

    @property
    def source(self) -> str:
        """The primary's address; empty on the primary."""
        return "" if self.leads else self.record.peers[self.record.primary]

    def question(self) -> dict[str, Any]:
        """Everything about the server."""
        return {"want": "server"}

    def secret_keys(self) -> frozenset[str]:
        """The digest of the stored password."""
        return frozenset({"password"})

    def expected(self) -> State:
        """Who writes, who follows whom and how."""
        if self.leads:
            return {
                "writes": "accepted",
                "epoch": str(self.record.epoch),
                "source": "none",
                "semi-sync": "source",
            }
        return {
            "writes": "refused",
            "source": f"{self.source} by GTID over TLS",
            "receiving": "running",
            "applying": "running",
            "semi-sync": "replica",
            "password": hashlib.sha256(self.password.encode()).hexdigest(),
        }

    def actual(self, answer: Answer) -> State:
        """The same of the server."""
        if not answer["up"]:
            return _down(answer)
        variables, replica = answer["variables"], answer["replica"]
        read_only = "1" in (variables["read_only"], variables["super_read_only"])
        seen = {
            "writes": "refused" if read_only else "accepted",
            "source": _source(replica) if replica else "none",
            "epoch": answer["epoch"].get("epoch") or "none",
            "semi-sync": _semi_sync(variables),
        }
        if replica:
            seen |= {
                "receiving": _thread(replica["Replica_IO_Running"], replica["Last_IO_Error"]),
                "applying": _thread(replica["Replica_SQL_Running"], replica["Last_SQL_Error"]),
                "password": answer["stored"].get("password") or "",
            }
        return seen

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Become it; what that takes is found out on the machine."""
        return [
            {
                "do": "mysql_role",
                "record": self.record.values(),
                "repl": {"user": self.user, "password": self.password},
                "rejoin": self.rejoin,
                "drain": self.drain,
            }
        ]


def _thread(running: str, error: str) -> str:
    if running == "Yes":
        return "running"
    word = "stopped" if running == "No" else running.lower()
    return f"{word}: {error}" if error else word


def _source(replica: Mapping[str, Any]) -> str:
    text = str(replica["Source_Host"])
    text += " by GTID" if replica["Auto_Position"] == "1" else " by file and position"
    secure = replica["Source_SSL_Allowed"] == "Yes"
    checked = replica["Source_SSL_Verify_Server_Cert"] == "Yes"
    text += " over TLS" if secure and checked else " over unverified TLS" if secure else " in clear"
    return text if replica["SQL_Delay"] == "0" else f"{text}, {replica['SQL_Delay']} s behind"


def _semi_sync(variables: Mapping[str, Any]) -> str:
    """Which side is on. The replica's is on everywhere, without effect on a primary."""
    if variables.get("rpl_semi_sync_source_enabled") == "ON":
        return "source"
    return "replica" if variables.get("rpl_semi_sync_replica_enabled") == "ON" else "off"
