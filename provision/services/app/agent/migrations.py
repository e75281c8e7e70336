"""On the machine: which schema changes the database has, and running those it lacks."""

from __future__ import annotations

from typing import Any

from provision.database.agent.client import MysqlError, local
from provision.engine.agent.core import ACTIONS, PROBES, Failed, Job, Say, run
from provision.engine.agent.files import Journal


def migrations_probe(each: list[dict[str, Any]]) -> Job:
    """The numbers of the migrations that a schema has: ``schema``."""
    yield
    answers = []
    for one in each:
        query = f"SELECT number FROM `{one['schema']}`.schema_migrations ORDER BY number"
        try:
            with local(timeout=10.0) as client:
                rows = client.query(query)
            answers.append({"numbers": [int(str(row["number"])) for row in rows], "error": ""})
        except MysqlError as error:
            answers.append({"numbers": [], "error": str(error)})
    return answers


def migrate(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Run a release's own program for it, in the release's folder: ``folder``, ``argv``."""
    say("changing the schema")
    done = run(["env", "-C", args["folder"], *args["argv"]], timeout=620)
    if done.status != 0:
        raise Failed("the schema could not be changed", done.out + done.err)


PROBES["migrations"] = migrations_probe
ACTIONS["migrate"] = migrate
