"""Usage, help and the list of tasks, and one message with a suggestion for every usage error."""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from invoke.exceptions import Exit, ParseError
from invoke.parser.parser import ParseMachine
from invoke.program import Program

from provision.commands import document, output
from provision.core.exit_status import ExitStatus
from provision.core.suggestions import closest

INDENT, GAP = "  ", 3
NARROW = 28
"""The least width of a description beside its name; below, it has lines of its own."""

VALUES = {
    "arch": "ARCHITECTURE",
    "bind": "ADDRESS",
    "deadline": "SECONDS",
    "env": "NAME=VALUE",
    "every": "SECONDS",
    "health": "PATH",
    "inventory": "FILE",
    "jump": "USER@HOST",
    "lab": "NAME",
    "lines": "N",
    "note": "TEXT",
    "only": "TEXT",
    "parallel": "N",
    "png": "FILE",
    "speed": "FACTOR",
    "static": "FOLDER",
    "svg": "FILE",
    "terminal": "N",
    "threads": "N",
    "to": "TIME",
    "width": "PIXELS",
    "workers": "N",
    "write": "FILE",
    "wsgi": "MODULE:NAME",
}
"""What stands for the value of an option in its help, if not the option's own name."""

_load_all: list[Callable[[], Iterable[str]]] = []


def install(all_tasks: Callable[[], Iterable[str]]) -> None:
    """Patch Invoke's program: its help, its list, and how usage errors end.

    Args:
        all_tasks: the names of all tasks, also of namespaces that this command does not import.
    """
    _load_all[:] = [all_tasks]
    for replacement in (parse_tasks, parse_cleanup, print_task_help, print_columns):
        setattr(Program, replacement.__name__, replacement)
    setattr(ParseMachine, error.__name__, error)


_parse_tasks, _parse_cleanup = Program.parse_tasks, Program.parse_cleanup


# --- usage errors --------------------------------------------------------------------------------


class TaskUsageError(ParseError):
    """A usage error.

    Args:
        word: of the command line that caused it.
        meant: the word that is probably meant.
    """

    def __init__(self, message: str, context: Any, word: str = "", meant: str = "") -> None:
        super().__init__(message, context)
        self.word = word
        self.meant = meant


def error(self: Any, message: str) -> NoReturn:
    """Raise a usage error of Invoke's parser, in the words of this command line."""
    context, flag = self.context, self.flag
    task = getattr(context, "name", None)
    if unknown := re.fullmatch(r"No idea what '(.*)' is!", message, re.DOTALL):
        raise unknown_word(unknown[1], context, self.initial)
    if "required positional arguments" in message:
        missing = " and ".join(a.name.upper() for a in context.missing_positional_args)
        raise TaskUsageError(f"{task}: {missing} is missing", context)
    if flag is not None and "needed value" in message:
        raise TaskUsageError(f"--{long_name(flag)} needs a value", context)
    if flag is not None and "doesn't take any value" in message:
        raise TaskUsageError(f"--{long_name(flag)} takes no value", context)
    raise TaskUsageError(message, context)


def unknown_word(word: str, context: Any, initial: Any) -> TaskUsageError:
    """The error for a word that is no task, no option and no argument."""
    task = getattr(context, "name", None)
    if not word.startswith("-"):
        if task and "." not in word:
            return TaskUsageError(f"{task}: unexpected argument {word!r}", context, word)
        if word in groups():
            what = f"{word} is a group of tasks, not a task"
            return TaskUsageError(what, None, word)
        meant = similar_task(word)
        return TaskUsageError(f"unknown task {word!r}{did_you_mean(meant)}", context, word, meant)
    flags = [*context.flags, *context.inverse_flags] if context is not None else []
    meant = closest(word, [flag for flag in flags if flag.startswith("--")])
    if task:
        what = f"{task} has no option {word}"
        return TaskUsageError(what + did_you_mean(meant), context, word, meant)
    what = f"unknown option {word} before the task{did_you_mean(meant)}"
    if not meant:
        what += "; options of a task follow its name"
    return TaskUsageError(what, context, word, meant)


def known_tasks() -> list[str]:
    """The names of all tasks."""
    return list(_load_all[0]()) if _load_all else []


def groups() -> set[str]:
    """The words before the dots of tasks."""
    return {name.partition(".")[0] for name in known_tasks()}


def similar_task(word: str) -> str:
    """The task that a misspelt word is most similar to, or whose name after the dot it is."""
    names = known_tasks()
    same = [name for name in names if name.partition(".")[2] == word.rpartition(".")[2]]
    return closest(word, names) or (same[0] if len(same) == 1 else "")


def did_you_mean(meant: str) -> str:
    """``; did you mean …?`` or empty."""
    return f"; did you mean {meant}?" if meant else ""


def parse_tasks(self: Any) -> None:
    """Parse the command line; a usage error ends the command."""
    try:
        _parse_tasks(self)
    except ParseError as problem:
        _usage_error(self, problem)


def parse_cleanup(self: Any) -> None:
    """Print help or a list, when asked for; a usage error ends the command."""
    try:
        _parse_cleanup(self)
    except ParseError as problem:  # --help of an unknown task
        if unknown := re.fullmatch(r"No idea what '(.*)' is!", str(problem), re.DOTALL):
            problem = unknown_word(unknown[1], None, None)
        _usage_error(self, problem)
    except Exit as ended:
        if ended.message:
            print(f"error: {ended.message}\nnext: invoke --list", file=sys.stderr)
            raise SystemExit(int(ExitStatus.USAGE)) from None
        raise SystemExit(int(output.final_status(ended.code))) from None


def _usage_error(program: Any, problem: ParseError) -> NoReturn:
    """Print what is wrong and the command that was meant, and exit."""
    words = program.argv[1:]
    command = next_command(words, problem)
    if "--json" in (words[: words.index("--")] if "--" in words else words):
        document.write_usage_error(str(problem), command, ExitStatus.USAGE)
    print(f"error: {problem}\nnext: {command}", file=sys.stderr)
    raise SystemExit(int(output.final_status(ExitStatus.USAGE)))


def next_command(words: Sequence[str], problem: ParseError) -> str:
    """The command as it was probably meant, otherwise the help."""
    word, meant = getattr(problem, "word", ""), getattr(problem, "meant", "")
    if word in groups():
        return f"invoke --list {word}"
    if word and meant:
        corrected = [
            meant if w == word else meant + w[len(word) :] if w.startswith(f"{word}=") else w
            for w in words
        ]
        return shlex.join(["invoke", *corrected])
    task = getattr(problem.context, "name", None)
    return f"invoke {task} --help" if task else "invoke --list"


# --- help and lists ------------------------------------------------------------------------------


def usage_line(name: str, task: Any) -> str:
    """Such as ``invoke lab.ssh MACHINE [--lab NAME] [-- COMMAND]``."""
    parts = [f"invoke {name}"]
    for argument in task.get_arguments():
        if argument.positional:
            word = argument.name.upper()
            parts.append(f"[{word}]" if hasattr(argument, "fallback") else word)
    parts.append("[options]")
    if task.remainder:
        words = f"-- {task.remainder}"
        parts.append(words if task.remainder_required else f"[{words}]")
    return " ".join(parts)


def option_rows(task: Any) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Names and descriptions: of the positional arguments, and of the options."""
    positional, options = [], []
    for argument in task.get_arguments():
        text = description(argument)
        if argument.positional:
            positional.append((argument.name.upper(), text))
        else:
            options.append((_option_names(argument), text))
    return positional, sorted(
        options, key=lambda row: row[0].partition("--")[2].removeprefix("[no-]")
    )


def long_name(argument: Any) -> str:
    """The name of an option without dashes, such as ``old-primary-is-dead``."""
    return str(max(argument.names, key=len))


def _option_names(argument: Any) -> str:
    long = long_name(argument)
    short = [name for name in argument.names if len(name) == 1]
    dashed = f"--[no-]{long}" if argument.kind is bool and argument.default is True else f"--{long}"
    value = "" if argument.kind is bool else " " + value_name(long)
    return (f"-{short[0]}, " if short else "    ") + dashed + value


def value_name(option: str) -> str:
    """What stands for the value of an option in its help."""
    return VALUES.get(option, option.rpartition("-")[2].upper())


def description(argument: Any) -> str:
    """The help of an argument, with its default."""
    text = str(argument.help or "")
    default = getattr(argument, "fallback", argument.default)
    if "default" in text or (argument.positional and default is None):
        return text
    if argument.kind is bool:
        return f"{text} (default: {'yes' if default else 'no'})"
    return f"{text} (default: {default})" if default else text


def print_task_help(self: Any, name: str) -> None:
    """Print usage, description, arguments and options of one task."""
    task = self.collection[name]
    positional, options = option_rows(task)
    print(f"Usage: {usage_line(name, task)}\n")
    for paragraph in inspect.cleandoc(task.__doc__ or "").split("\n\n"):
        print(textwrap.fill(" ".join(paragraph.split()), screen_width()) + "\n")
    for title, rows in (("Arguments:", positional), ("Options:", options)):
        if rows:
            print(title)
            print_columns(self, rows)


def screen_width() -> int:
    """Columns of the terminal; COLUMNS or 80 without one."""
    return max(30, shutil.get_terminal_size().columns)


def print_columns(self: Any, tuples: Sequence[tuple[str, str | None]]) -> None:
    """Print names and descriptions in two columns, or below each other on a narrow screen."""
    width = screen_width()
    indent = len(INDENT) + max(len(name) for name, _ in tuples) + GAP
    beside = width - indent >= NARROW
    for name, text in tuples:
        first = INDENT + name.ljust(indent - len(INDENT)) if beside else ""
        if not beside:
            print(INDENT + name)
            indent = 2 * len(INDENT)
        filled = textwrap.fill(
            text or "",
            width,
            initial_indent=first or " " * indent,
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        print(filled if (text or beside) else "", end="\n" if (text or beside) else "")
    print()
