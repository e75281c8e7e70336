"""Migrations: the numbered SQL files of a release, and which of them are pending.

Rules for `migrations/NNNN_name.sql`: numbers start at 0001 without gaps; never edit a file that
has been applied anywhere, but add another; MySQL commits implicitly around DDL, so every statement
is idempotent (IF NOT EXISTS) or has its own file; the previous release must work with the new
tables.
"""

from __future__ import annotations

import hashlib
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_FILE = re.compile(r"([0-9]{4})_([a-z0-9_]+)\.sql", re.ASCII)
# Strings and quoted names, comments, and the end of a statement.
_TOKEN = re.compile(
    r"""(?P<quoted>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`(?:[^`]|``)*`)"""
    r"""|(?P<comment>(?:--(?=[\s\x00-\x1f]|\Z)|\#)[^\n]*|/\*(?!!).*?\*/)"""
    r"""|(?P<end>;)|(?P<open>['"`]|/\*)""",
    re.DOTALL,
)


class MigrationError(Exception):
    """The migrations of this release cannot be applied; the message has the file and the reason."""


@dataclass(frozen=True)
class Migration:
    """One numbered file.

    Line ends do not count as an edit: git and editors change them.

    Args:
        checksum: of the content with Unix line ends.
        crlf_checksum: of the content with Windows line ends.
    """

    number: int
    name: str
    checksum: str
    statements: tuple[str, ...]
    crlf_checksum: str = ""

    def is_same(self, applied: str) -> bool:
        """Whether the applied file was this one, with either kind of line ends."""
        return applied in (self.checksum, self.crlf_checksum)


@dataclass(frozen=True)
class MigrationPlan:
    """`pending` migrations in order; `unknown` numbers were applied by later releases."""

    pending: tuple[Migration, ...]
    unknown: tuple[int, ...]


def statements(sql: str) -> tuple[str, ...]:
    """Split the text of a file into statements, without comments and semicolons.

    DELIMITER, stored programs and versioned comments are not supported.

    Raises:
        MigrationError: a quote or comment is not closed.
    """
    parts: list[str] = []
    current: list[str] = []
    position = 0
    for token in _TOKEN.finditer(sql):
        current.append(sql[position : token.start()])
        position = token.end()
        if token.lastgroup == "open":
            line = sql.count("\n", 0, token.start()) + 1
            raise MigrationError(f"line {line}: {token.group()} is not closed")
        if token.lastgroup == "end":
            parts.append("".join(current).strip())
            current = []
        else:
            current.append(token.group() if token.lastgroup == "quoted" else " ")
    current.append(sql[position:])
    parts.append("".join(current).strip())
    return tuple(statement for statement in parts if statement)


def load(directory: Path) -> tuple[Migration, ...]:
    """Read the migrations of a release, in order.

    Raises:
        MigrationError: there are none, a name is invalid, numbers have a gap or a duplicate, or a
            file has no statement.
    """
    paths = sorted(directory.glob("*.sql"))
    if not paths:
        raise MigrationError(f"{directory} has no migrations")
    migrations: list[Migration] = []
    for path in paths:
        match = _FILE.fullmatch(path.name)
        if not match:
            raise MigrationError(f"invalid name {path.name}; expected one such as 0001_words.sql")
        number = int(match[1])
        if number != len(migrations) + 1:
            raise MigrationError(f"{path.name} does not have the number {len(migrations) + 1:04d}")
        content = path.read_bytes().removeprefix(BOM_UTF8).replace(b"\r\n", b"\n")
        try:
            parts = statements(content.decode("utf-8"))
        except (MigrationError, UnicodeDecodeError) as error:
            raise MigrationError(f"{path.name}: {error}") from error
        if not parts:
            raise MigrationError(f"{path.name} has no statement")
        digests = [hashlib.sha256(text).hexdigest() for text in (content, _with_crlf(content))]
        migrations.append(Migration(number, path.name, digests[0], parts, digests[1]))
    return tuple(migrations)


def _with_crlf(content: bytes) -> bytes:
    return content.replace(b"\n", b"\r\n")


def plan(release: Iterable[Migration], applied: Mapping[int, str]) -> MigrationPlan:
    """Compare a release's migrations with those a database has.

    Args:
        applied: by number, the checksum of the applied file.

    Raises:
        MigrationError: an applied file was edited, or one is pending below an applied one.
    """
    migrations = tuple(release)
    for migration in migrations:
        if not migration.is_same(applied.get(migration.number, migration.checksum)):
            raise MigrationError(
                f"{migration.name} was edited after it had been applied; restore it and add the"
                " change as a new file"
            )
    pending = tuple(m for m in migrations if m.number not in applied)
    if pending and applied and pending[0].number < max(applied):
        raise MigrationError(f"{pending[0].name} is pending, but a later one has been applied")
    numbers = {m.number for m in migrations}
    return MigrationPlan(pending, tuple(sorted(set(applied) - numbers)))
