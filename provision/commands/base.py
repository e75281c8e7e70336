"""What all tasks share: opening a lab, one message per error, hidden secrets, ``--json``."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import re
import shutil
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from invoke.tasks import task as invoke_task

from provision.commands import document, drill_guard, output, signals, usage
from provision.commands.document import publish
from provision.commands.parsing import LabTask, install
from provision.core import platform as controller
from provision.core.errors import LabError, UsageError
from provision.core.exit_status import ExitStatus
from provision.core.files import disk_error
from provision.core.hints import for_lab
from provision.core.lab import ROOT
from provision.core.secrets import Secrets
from provision.operations.session import Session, lab_name, open_session

install()
controller.tolerate_output_encoding()
output.install()

__all__ = ["Session", "lab_name", "open_session", "publish"]

PIPE_WIDTH = 4096
"""Columns of output that no terminal shows: one record stays one line, for grep and awk."""

COMMON_HELP = {
    "lab": "name of the lab (default: LAB_NAME, otherwise 'default')",
    "machine": "a machine of the lab, such as web-01",
    "server": "a server of the balancer, such as web-01",
    "name": "name of the snapshot",
    "json": "print one JSON document; schemas/ describes it",
    "yes": "do not ask for confirmation",
}
"""The help of arguments that mean the same in several tasks."""


def task(*, result: Any = None, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Invoke's task decorator; errors become one message and an exit status.

    Args:
        result: the `TypedDict` that the task publishes; it adds the option ``--json``. None for a
            task that hands the terminal over to another program.
        options: those of ``invoke.task`` and `LabTask`; `COMMON_HELP` is added to the help.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        parameters = inspect.signature(function).parameters
        takes_lab = "lab" in parameters

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            signals.install()
            name = lab_name(str(kwargs.get("lab", "") or ""))
            with contextlib.ExitStack() as stack:
                if result is not None and kwargs.pop("json", False):
                    stack.enter_context(errors(name))  # of writing the document
                    lab = name if takes_lab else ""
                    stack.enter_context(document.document(made.kind, lab, _redactor(name)))
                stack.enter_context(errors(name))
                if takes_lab:
                    drill_guard.before(made.kind, name, kwargs)
                function(*args, **kwargs)
            end(ExitStatus.SUCCESS)

        if result is not None:
            flag = inspect.Parameter(
                "json", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=False, annotation=bool
            )
            signature = inspect.Signature([*parameters.values(), flag])
            wrapped.__signature__ = signature  # type: ignore[attr-defined]
            parameters = signature.parameters
        texts = {**COMMON_HELP, **options.pop("help", {})}
        help_texts = {k: v for k, v in texts.items() if k.replace("-", "_") in parameters}
        made: LabTask = invoke_task(klass=LabTask, help=help_texts, **options)(wrapped)
        made.result = result
        return made

    return decorate


@contextlib.contextmanager
def errors(name: str) -> Iterator[None]:
    """Print a `LabError` as one message with secrets hidden, and exit with its status."""
    try:
        yield
    except LabError as error:
        fail(error, name)
    except SystemExit as ended:
        end(ended.code if isinstance(ended.code, int) else ExitStatus.SUCCESS)
    except Exception as error:
        if os.environ.get("LAB_DEBUG"):
            raise
        if isinstance(error, OSError) and (full := disk_error(error)):
            fail(full, name)
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        unexpected = LabError(
            f"unexpected {type(error).__name__} at {where}: {error}",
            "this is a bug in the lab's code; LAB_DEBUG=1 shows the traceback",
            status=ExitStatus.BUG,
        )
        fail(unexpected, name)
    except KeyboardInterrupt:
        interrupted()


def end(status: int) -> None:
    """End the command: write what is buffered, and exit unless everything succeeded."""
    final = output.final_status(status)
    if final != ExitStatus.SUCCESS:
        raise SystemExit(int(final)) from None


def interrupted() -> NoReturn:
    """Exit as interrupted, without waiting for threads: their work can be killed and repeated."""
    error = LabError("interrupted", "run the same command again to continue")
    document.record_error(error)
    print(f"error: {error.what}; {error.hint}", file=sys.stderr, flush=True)
    if threading.active_count() > 1:
        document.write_now(ExitStatus.INTERRUPTED)
        output.flush()
        os._exit(ExitStatus.INTERRUPTED)
    raise SystemExit(int(ExitStatus.INTERRUPTED))


def fail(error: LabError, name: str) -> NoReturn:
    """Print an error to stderr, with the lab's secrets hidden, and exit with its status."""
    hide = _redactor(name)
    shown = LabError(
        hide(for_lab(error.what, name)),
        hide(for_lab(error.hint, name)),
        output=hide(for_lab(error.output, name)),
    )
    document.record_error(shown)
    print(f"error: {shown}", file=sys.stderr)
    raise SystemExit(int(output.final_status(error.status)))


def _redactor(name: str) -> Callable[[str], str]:
    """Hides the secrets of a lab; they are read when it is called."""

    def hide(text: str) -> str:
        directory = ROOT / ".lab" / name
        if re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) and (directory / "secrets").is_dir():
            with contextlib.suppress(LabError):
                return Secrets(directory).redact(text)
        return text

    return hide


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


def url_path(text: str) -> str:
    """Check the path of a URL, which may have a query.

    Raises:
        UsageError: when it is none.
    """
    if not text.startswith("/") or any(not "!" <= character <= "~" for character in text):
        raise UsageError(f"invalid path {text!r}", "use a path such as / or /api/notes?limit=1")
    return text


def console() -> Any:
    """Rich's console for stdout: colors on a terminal, plain text otherwise.

    It breaks no line: the terminal does, so that what is copied from it is whole.
    """
    from rich.console import Console

    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    width = usage.screen_width() if known else PIPE_WIDTH
    # Without a height, Rich takes every screen with TERM=dumb for one of 80 columns.
    height = shutil.get_terminal_size().lines
    return Console(highlight=False, soft_wrap=True, width=width, height=height)


def print_markdown(text: str) -> None:
    """Print Markdown: rendered on a terminal, as it is otherwise."""
    if not sys.stdout.isatty():
        print(text.rstrip("\n"))
        return
    from provision.commands.markdown import WholeMarkdown

    console().print(WholeMarkdown(text), soft_wrap=False, crop=False)
