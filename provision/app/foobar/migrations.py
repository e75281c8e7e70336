"""Migrations as values: the numbered SQL files of a release, and which of them are pending.

Rules for authors of `migrations/NNNN_words.sql`: numbers rise by one from 0001; a file that has
been applied anywhere is never edited, a new one is added; MySQL commits around each statement
that defines something, so every statement can be repeated (IF NOT EXISTS) or stands in a file of
its own; the release before must go on working with the new tables.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_FILE = re.compile(r"([0-9]{4})_([a-z0-9_]+)\.sql", re.ASCII)
# Strings and quoted names, in which nothing else has a meaning; comments; the end of a statement.
_TOKEN = re.compile(
    r"""(?P<quoted>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`(?:[^`]|``)*`)"""
    r"""|(?P<comment>(?:--(?=[\s\x00-\x1f]|\Z)|\#)[^\n]*|/\*(?!!).*?\*/)"""
    r"""|(?P<end>;)|(?P<open>['"`]|/\*)""",
    re.DOTALL,
)


class MigrationError(Exception):
    """The migrations of this release cannot be applied; the message says which and why."""


@dataclass(frozen=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    checksum: str
    statements: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What is to be done: `pending` in order; `unknown` numbers were applied by later releases."""

    pending: tuple[Migration, ...]
    unknown: tuple[int, ...]


def statements(sql: str) -> tuple[str, ...]:
    """Split the text of a file into statements, without comments and semicolons.

    Only what migrations need: no DELIMITER, no stored programs, no versioned comments.

    Args:
        sql: the text.

    Raises:
        MigrationError: a quotation mark or comment is never closed.
    """
    found: list[str] = []
    current: list[str] = []
    position = 0
    for token in _TOKEN.finditer(sql):
        current.append(sql[position : token.start()])
        position = token.end()
        if token.lastgroup == "open":
            line = sql.count("\n", 0, token.start()) + 1
            raise MigrationError(f"line {line}: {token.group()} is never closed")
        if token.lastgroup == "end":
            found.append("".join(current).strip())
            current = []
        else:
            current.append(token.group() if token.lastgroup == "quoted" else " ")
    current.append(sql[position:])
    found.append("".join(current).strip())
    return tuple(statement for statement in found if statement)


def load(directory: Path) -> tuple[Migration, ...]:
    """Read the migrations of a release, in order.

    Args:
        directory: where the files lie.

    Raises:
        MigrationError: there are none, a name does not fit, numbers have a gap or come twice, or
            a file has no statement.
    """
    paths = sorted(directory.glob("*.sql"))
    if not paths:
        raise MigrationError(f"{directory} holds no migrations")
    found: list[Migration] = []
    for path in paths:
        match = _FILE.fullmatch(path.name)
        if not match:
            raise MigrationError(f"{path.name} is not named like 0001_words.sql")
        number = int(match[1])
        if number != len(found) + 1:
            raise MigrationError(f"{path.name} stands where number {len(found) + 1:04d} should")
        content = path.read_bytes()
        try:
            parts = statements(content.decode("utf-8"))
        except (MigrationError, UnicodeDecodeError) as error:
            raise MigrationError(f"{path.name}: {error}") from error
        if not parts:
            raise MigrationError(f"{path.name} holds no statement")
        found.append(Migration(number, path.name, hashlib.sha256(content).hexdigest(), parts))
    return tuple(found)


def plan(found: Iterable[Migration], applied: Mapping[int, str]) -> Plan:
    """Compare a release's migrations with those a database has.

    Args:
        found: the release's, in order.
        applied: for each number in the database, the checksum of the file then applied.

    Raises:
        MigrationError: an applied file was edited, or one is pending below an applied one.
    """
    known = tuple(found)
    for migration in known:
        checksum = applied.get(migration.number, migration.checksum)
        if checksum != migration.checksum:
            raise MigrationError(
                f"{migration.name} was edited after it had been applied; restore it and put the"
                " change into a new file"
            )
    pending = tuple(each for each in known if each.number not in applied)
    if pending and applied and pending[0].number < max(applied):
        raise MigrationError(f"{pending[0].name} is pending, but a later one has been applied")
    numbers = {each.number for each in known}
    return Plan(pending, tuple(sorted(set(applied) - numbers)))
