"""Extends Invoke's parser: positional arguments may have a default.

A word that starts with a dash is an option, never a positional argument, so that
``invoke lab.ssh --help`` prints help.
"""

from __future__ import annotations

import sys
from typing import Any

from invoke.exceptions import ParseError
from invoke.parser.parser import ParseMachine, Parser
from invoke.tasks import Task

from provision.commands import document


class LabTask(Task[Any]):
    """A task whose positional arguments are optional when they have a default.

    Attributes:
        kind: its full name, such as ``lab.status``; tasks.py sets it.
        result: the `TypedDict` that it publishes with ``--json``; None for a task without.
    """

    kind: str = ""
    result: Any = None

    def get_arguments(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Move defaults aside: Invoke's parser treats a positional one with a default as given."""
        texts = dict(self.help)  # Invoke removes those that it has used
        arguments: list[Any] = super().get_arguments(*args, **kwargs)
        self.help = texts
        for argument in arguments:
            if argument.positional and argument.default is not None:
                argument.fallback, argument.default = argument.default, None
        return arguments


_complete_context = ParseMachine.complete_context
_see_positional_arg = ParseMachine.see_positional_arg
_parse_argv = Parser.parse_argv

PARSE_ERROR_STATUS = 1
"""With which Invoke exits after an error in the command line."""


def complete_context(self: Any) -> None:
    """Fill in the defaults of omitted arguments; with ``--help``, nothing is required."""
    help_requested = self.initial is not None and self.initial.args["help"].value
    for argument in getattr(self.context, "missing_positional_args", ()):
        if hasattr(argument, "fallback"):
            argument.value = argument.fallback
        elif help_requested:
            argument.value = ""
    _complete_context(self)


def see_positional_arg(self: Any, value: Any) -> None:
    """Parse a word where a positional argument is expected."""
    flags = self.initial.flags if self.initial is not None else {}
    if value in flags and flags[value].name == "help":
        flags[value].value = self.context.name
    elif str(value).startswith("-"):
        self.error(f"No idea what {value!r} is!")
    else:
        _see_positional_arg(self, value)


def parse_argv(self: Any, argv: list[str]) -> Any:
    """Parse a command line; with ``--json``, an error is a document too."""
    try:
        return _parse_argv(self, argv)
    except ParseError as error:
        words = sys.argv[: sys.argv.index("--")] if "--" in sys.argv else sys.argv
        if "--json" in words:
            document.write_usage_error(str(error), PARSE_ERROR_STATUS)
        raise


def install() -> None:
    """Patch Invoke's parser."""
    setattr(Parser, parse_argv.__name__, parse_argv)
    for replacement in (complete_context, see_positional_arg):
        setattr(ParseMachine, replacement.__name__, replacement)
