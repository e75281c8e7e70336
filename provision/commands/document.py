"""One JSON document on stdout per command with ``--json``: its values, its error, or both.

While a command runs with ``--json``, whatever it prints goes to stderr as progress. `publish`
records its values, `record_error` its error, and the document is written once, at the end.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from provision.commands.results.envelope import SCHEMA_VERSION, Envelope, ErrorValues
from provision.core import next_steps
from provision.core.errors import OUTPUT_LINES, LabError
from provision.core.hints import for_lab


class Document:
    """The document of the running command.

    Args:
        kind: the command, such as ``lab.status``.
        lab: the lab's name; empty for a command without one.
        hide: removes secrets from a text.
    """

    def __init__(
        self, kind: str, lab: str, stream: TextIO, hide: Callable[[str], str] = str
    ) -> None:
        self.kind = kind
        self.lab = lab
        self.data: Any = None
        self.error: ErrorValues | None = None
        self._stream: TextIO | None = stream
        self._hide = hide

    def write(self, exit_code: int) -> None:
        """Write the document, once."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        if exit_code and self.data is None and self.error is None:
            self.error = ErrorValues(what=f"exit status {exit_code}", next="", output=[])
        values = Envelope(
            schema_version=SCHEMA_VERSION,
            kind=self.kind,
            lab=self.lab,
            exit_code=exit_code,
            data=self.data,
            error=self.error,
        )
        text = json.dumps(_completed(values, self.lab), indent=2, default=str, allow_nan=False)
        print(self._hide(text), file=stream, flush=True)


_current: Document | None = None


def publish(values: Any) -> bool:
    """Record what the command shows, a `TypedDict` of `results`.

    Returns:
        Whether it is printed as JSON, so that the command need not print it as text.
    """
    if _current is not None:
        _current.data = values
    return _current is not None


def requested() -> bool:
    """Whether the running command prints JSON."""
    return _current is not None


def record_error(error: LabError) -> None:
    """Record why the command fails; its hint has the ``--lab`` of the command already."""
    if _current is not None:
        _current.error = error_values(error)


def error_values(error: LabError) -> ErrorValues:
    """An error as values."""
    output = error.output.strip().splitlines()[-OUTPUT_LINES:]
    return ErrorValues(what=error.what, next=error.hint, output=output)


def write_now(exit_code: int) -> None:
    """Write the document before the process exits without unwinding."""
    if _current is not None:
        _current.write(exit_code)


@contextlib.contextmanager
def document(kind: str, lab: str, hide: Callable[[str], str] = str) -> Iterator[None]:
    """Run a command whose values are printed as one document; see `Document`."""
    global _current
    _current = Document(kind, lab, sys.stdout, hide)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
        _current.write(0)
    except SystemExit as end:
        _current.write(exit_status(end.code))
        raise
    finally:
        _current = None


def write_usage_error(what: str, next_command: str, status: int) -> None:
    """Write the document of a command line that could not be parsed."""
    failed = Document("error", "", sys.stdout)
    failed.error = ErrorValues(what=what, next=next_command, output=[])
    failed.write(status)


def exit_status(code: object) -> int:
    """The exit status of a `SystemExit`."""
    if code is None or isinstance(code, int):
        return code or 0
    return 1


def _completed(value: Any, lab: str) -> Any:
    """The value as JSON has it: null for what it does not have.

    Every next command stands alone on its line, with ``--lab``, as on the screen.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        plain = {str(key): _completed(item, lab) for key, item in value.items()}
        if isinstance(plain.get("next"), str):
            command = for_lab(plain["next"], lab) if lab else plain["next"]
            plain["next"] = "\n".join(next_steps.lines_of(command))
        return plain
    if isinstance(value, list | tuple):
        return [_completed(item, lab) for item in value]
    return value
