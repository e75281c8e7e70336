"""What surrounds the values of every command: version, kind, lab, exit code, error."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from provision.commands.results.units import Next

SCHEMA_VERSION = 1
"""Raised when a value is renamed, removed or changes its meaning; not when one is added."""


class ErrorValues(TypedDict):
    """Why the command failed."""

    what: str
    next: Next
    output: Annotated[list[str], "the last lines of the program that failed"]


class Envelope(TypedDict):
    """The one document that a command prints with ``--json``."""

    schema_version: int
    kind: Annotated[str, "the command, such as lab.status; error when none could be parsed"]
    lab: Annotated[str, "the lab's name; empty for a command that is not about one lab"]
    exit_code: Annotated[int, "the exit status of the command"]
    data: Annotated[dict[str, Any] | None, "what the command shows; null when it failed before"]
    error: ErrorValues | None
