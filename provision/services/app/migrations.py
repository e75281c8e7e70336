"""Migrations of the application's schema, as numbered files of a release."""

from __future__ import annotations

import re
from dataclasses import dataclass

from provision.engine.agent.protocol import Action, Probe
from provision.engine.plan import Resource, State
from provision.services.app.agent.migrations import AppliedMigrations, migrations_probe

PROGRAM = ("python3", "-m", "foobar.migrate", "--socket", "/run/mysqld/mysqld.sock")


@dataclass(frozen=True)
class Migrations(Resource[AppliedMigrations]):
    """All migrations of a release are applied to its schema.

    Args:
        folder: of the release on the machine.
        files: names in its ``migrations`` folder, such as ``0001_notes.sql``.
    """

    schema: str
    folder: str
    files: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"migrations of {self.schema}"

    @property
    def numbers(self) -> tuple[int, ...]:
        """The files' numbers."""
        matches = (re.match(r"\d+", name) for name in self.files)
        return tuple(sorted(int(match.group()) for match in matches if match))

    def probe(self) -> Probe[AppliedMigrations]:
        return migrations_probe(self.schema)

    def expected(self) -> State:
        return {"pending": "none"}

    def actual(self, result: AppliedMigrations) -> State:
        """The pending ones; the schema may be ahead of an older release."""
        pending = sorted(set(self.numbers) - set(result.numbers))
        return {"pending": ", ".join(f"{number:04}" for number in pending) or "none"}

    def actions(self, result: AppliedMigrations) -> list[Action]:
        return [Action("migrate", {"folder": self.folder, "argv": list(PROGRAM)})]
