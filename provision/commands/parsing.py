"""Extends Invoke's parser: positional arguments may have a default.

A word that starts with a dash is an option, never a positional argument, so that
``invoke lab.ssh --help`` prints help.
"""

from __future__ import annotations

from typing import Any

from invoke.parser.parser import ParseMachine
from invoke.tasks import Task

SHORT_OPTIONS = {
    "all": "a",
    "deadline": "d",
    "every": "e",
    "follow": "f",
    "inventory": "i",
    "json": "j",
    "lab": "l",
    "machine": "m",
    "network": "n",
    "only": "o",
    "provider": "p",
    "rebuild": "r",
    "service": "s",
    "topology": "t",
    "version": "v",
    "write": "w",
    "yes": "y",
}
"""The only options with a short form: each letter means the same in every task."""

FLAGS = ("all", "follow", "json", "rebuild", "write", "yes")
"""Those of them whose short form takes no value; ``--write FILE`` has none."""


class LabTask(Task[Any]):
    """A task whose positional arguments are optional when they have a default.

    Args:
        remainder: what the words after ``--`` are, such as ``COMMAND``; empty if none are allowed.
        remainder_required: whether the task needs them.

    Attributes:
        kind: its full name, such as ``lab.status``; tasks.py sets it.
        result: the `TypedDict` that it publishes with ``--json``; None for a task without.
    """

    kind: str = ""
    result: Any = None

    def __init__(
        self, *args: Any, remainder: str = "", remainder_required: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.auto_shortflags = False
        self.remainder = remainder
        self.remainder_required = remainder_required

    def arg_opts(self, name: str, default: Any, taken_names: set[str]) -> dict[str, Any]:
        """The short form of an option is declared, not the first letter that is free."""
        options: dict[str, Any] = super().arg_opts(name, default, taken_names)
        if name in SHORT_OPTIONS and isinstance(default, bool) == (name in FLAGS):
            options["names"].append(SHORT_OPTIONS[name])
        return options

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


def install() -> None:
    """Patch Invoke's parser."""
    for replacement in (complete_context, see_positional_arg):
        setattr(ParseMachine, replacement.__name__, replacement)
