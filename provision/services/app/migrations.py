"""The schema of the application's database, changed by a release's numbered files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from provision.engine.plan import Answer, Resource, State

PROGRAM = ("python3", "-m", "foobar.migrate", "--socket", "/run/mysqld/mysqld.sock")


@dataclass(frozen=True)
class Migrations(Resource):
    """All numbered files of a release have been applied to its schema.

    Args:
        schema: the database.
        folder: the release on the machine.
        files: the names in its ``migrations`` folder, such as ``0001_notes.sql``.
    """

    schema: str
    folder: str
    files: tuple[str, ...]

    kind: ClassVar[str] = "migrations"

    @property
    def name(self) -> str:
        """``migrations of`` and the schema."""
        return f"migrations of {self.schema}"

    @property
    def numbers(self) -> tuple[int, ...]:
        """The files' numbers."""
        found = (re.match(r"\d+", name) for name in self.files)
        return tuple(sorted(int(match.group()) for match in found if match))

    def question(self) -> dict[str, Any]:
        """The schema."""
        return {"schema": self.schema}

    def expected(self) -> State:
        """None is pending."""
        return {"pending": "none"}

    def actual(self, answer: Answer) -> State:
        """Those that are pending; the schema may be ahead of an older release."""
        pending = sorted(set(self.numbers) - set(answer["numbers"]))
        return {"pending": ", ".join(f"{number:04}" for number in pending) or "none"}

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Run the release's program."""
        return [{"do": "migrate", "folder": self.folder, "argv": list(PROGRAM)}]
