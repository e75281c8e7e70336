"""Checks of snapshot names that all providers share."""

from __future__ import annotations

import re
from collections.abc import Collection

from provision.core.errors import UsageError
from provision.core.suggestions import suggestion

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def check_new(name: str, existing: Collection[str]) -> None:
    """Refuse an invalid name, or one that is in use.

    Raises:
        UsageError: with the reason.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a valid snapshot name",
            "use up to 63 letters, digits, dots, underscores and hyphens, and begin with a letter "
            "or a digit",
        )
    if name in existing:
        raise UsageError(
            f"snapshot {name} already exists",
            f"choose another name, or: invoke lab.snapshot {name} --delete",
        )


def check_exists(name: str, existing: Collection[str]) -> None:
    """Refuse the name of a snapshot that does not exist.

    Raises:
        UsageError: with the names of the existing snapshots.
    """
    if name not in existing:
        names = ", ".join(sorted(existing)) or "none"
        what = f"there is no snapshot {name!r}{suggestion(name, existing)}"
        raise UsageError(what, f"existing snapshots: {names}")
