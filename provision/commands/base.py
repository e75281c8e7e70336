"""What all tasks share: opening a lab, one message per error, hidden secrets, JSON output."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from invoke.tasks import task as invoke_task

from provision.commands.parsing import LabTask, install
from provision.core import platform as controller
from provision.core.errors import LabError, UsageError
from provision.core.hints import for_lab
from provision.core.lab import ROOT
from provision.core.secrets import Secrets
from provision.operations.session import Session, lab_name, open_session

install()
controller.tolerate_output_encoding()

__all__ = ["Session", "lab_name", "open_session"]

LAB_HELP = "name of the lab (default: LAB_NAME, otherwise 'default')"


def task(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Invoke's task decorator; errors become one message and an exit status.

    Args:
        options: those of ``invoke.task``; the help of ``--lab`` is added.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with errors(lab_name(str(kwargs.get("lab", "") or ""))):
                return function(*args, **kwargs)

        texts = {"lab": LAB_HELP, **options.pop("help", {})}
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        help_texts = {k: v for k, v in texts.items() if k.replace("-", "_") in names}
        return invoke_task(klass=LabTask, help=help_texts, **options)(wrapped)

    return decorate


@contextlib.contextmanager
def errors(name: str) -> Iterator[None]:
    """Print a `LabError` as one message with secrets hidden, and exit with its status."""
    try:
        yield
    except LabError as error:
        fail(str(error), name, error.status)
    except BrokenPipeError:
        # The reader closed the pipe (`| head`), so no message can be shown.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except Exception as error:
        if os.environ.get("LAB_DEBUG"):
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        fail(
            f"unexpected {type(error).__name__} at {where}: {error}\n"
            "next: this is a bug in the lab's code; LAB_DEBUG=1 shows the traceback",
            name,
            70,
        )
    except KeyboardInterrupt:
        interrupted()


def interrupted() -> NoReturn:
    """Exit with 130, without waiting for threads: their work can be killed and repeated."""
    print("error: interrupted; run the same command again to continue", file=sys.stderr, flush=True)
    if threading.active_count() > 1:
        sys.stdout.flush()
        os._exit(130)
    raise SystemExit(130)


def fail(message: str, name: str, status: int) -> NoReturn:
    """Print an error to stderr, with the lab's secrets hidden, and exit."""
    directory = ROOT / ".lab" / name
    if re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) and (directory / "secrets").is_dir():
        with contextlib.suppress(LabError):
            message = Secrets(directory).redact(message)
    print(f"error: {for_lab(message, name)}", file=sys.stderr)
    raise SystemExit(status)


def remainder() -> list[str]:
    """The command line after ``--``."""
    if "--" not in sys.argv:
        return []
    return sys.argv[sys.argv.index("--") + 1 :]


def number(text: str, name: str, low: float, high: float) -> float:
    """Parse a numeric argument.

    Raises:
        UsageError: when it is not a number between the limits.
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise UsageError(f"invalid {name} {text!r}", f"use a number from {low:g} to {high:g}")
    return value


def show_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=2, default=str))


def console() -> Any:
    """Rich's console for stdout: colors on a terminal, plain text otherwise."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 160
    return Console(highlight=False, width=width)
