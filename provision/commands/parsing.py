"""Invoke's parser, taught two things about positional arguments.

They may have a default; and words that begin with a dash are options, so that
``invoke lab.ssh --help`` asks for help instead of a machine of that name.
"""

from __future__ import annotations

from typing import Any

from invoke.parser.parser import ParseMachine
from invoke.tasks import Task


class LabTask(Task[Any]):
    """A task whose positional arguments may be left out when they have a default."""

    def get_arguments(self, *args: Any, **kwargs: Any) -> list[Any]:
        """The arguments for the parser, which takes a positional one with a default for given."""
        found: list[Any] = super().get_arguments(*args, **kwargs)
        for argument in found:
            if argument.positional and argument.default is not None:
                argument.fallback, argument.default = argument.default, None
        return found


_complete_context = ParseMachine.complete_context
_see_positional_arg = ParseMachine.see_positional_arg


def complete_context(self: Any) -> None:
    """At a task's end: what was left out gets its default; who asks for help need give nothing."""
    helped = self.initial is not None and self.initial.args["help"].value
    for argument in getattr(self.context, "missing_positional_args", ()):
        if hasattr(argument, "fallback"):
            argument.value = argument.fallback
        elif helped:
            argument.value = ""
    _complete_context(self)


def see_positional_arg(self: Any, value: Any) -> None:
    """A word where a positional argument is expected."""
    flags = self.initial.flags if self.initial is not None else {}
    if value in flags and flags[value].name == "help":
        flags[value].value = self.context.name
    elif str(value).startswith("-"):
        self.error(f"No idea what {value!r} is!")
    else:
        _see_positional_arg(self, value)


def install() -> None:
    """Teach it, once."""
    for replacement in (complete_context, see_positional_arg):
        setattr(ParseMachine, replacement.__name__, replacement)
