"""Migrations of the application's schema: which were applied, and applying the others."""

from __future__ import annotations

from dataclasses import dataclass

from provision.database.agent.session import NO_LAB_TABLE, MysqlError, connect_local
from provision.engine.agent.files import Journal
from provision.engine.agent.process import AgentError, Log, run
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, action, collector


@dataclass(frozen=True)
class AppliedMigrations:
    """Numbers of the migrations that a schema has."""

    numbers: tuple[int, ...]


def migrations_probe(schema: str) -> Probe[AppliedMigrations]:
    """The migrations that were applied to a schema."""
    return Probe("migrations", f"migrations of {schema}", {"schema": schema}, AppliedMigrations)


@collector("migrations")
def collect_migrations(args: Args) -> AppliedMigrations:
    """See `migrations_probe`."""
    query = f"SELECT number FROM `{args['schema']}`.schema_migrations ORDER BY number"
    try:
        with connect_local() as session:
            return AppliedMigrations(tuple(int(str(row["number"])) for row in session.query(query)))
    except MysqlError as error:
        if error.code not in NO_LAB_TABLE:
            raise
        return AppliedMigrations(())  # before the first migration


@action("migrate")
def migrate(args: Args, journal: Journal, log: Log) -> None:
    """Run a release's own migration program in the release's folder: ``folder``, ``argv``."""
    log("migrating the schema")
    result = run(["env", "-C", args["folder"], *args["argv"]], timeout=620)
    if not result.ok:
        raise AgentError("the schema could not be migrated", result.output)
