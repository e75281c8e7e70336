"""What every task does alike: open a lab, turn errors into one message, hide secrets."""

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from invoke.tasks import task as invoke_task

from provision import providers
from provision.commands.parsing import LabTask, install
from provision.core import platform as controller
from provision.core import state
from provision.core.errors import LabError, UsageError, for_lab
from provision.core.lab import ROOT, Lab
from provision.core.report import Report
from provision.core.secrets import Secrets
from provision.core.state import State
from provision.engine.context import Context
from provision.engine.fleet import Fleet, quiet, running
from provision.providers.base import Provider
from provision.topology.labs import open_lab

install()
controller.plain_output()

LAB_HELP = "which lab (default: the environment's LAB_NAME, else 'default')"


@dataclass(frozen=True)
class Session:
    """An opened lab: what it should be, what is recorded of it, where its machines come from."""

    lab: Lab
    state: State
    provider: Provider

    @property
    def context(self) -> Context:
        """What roles are given."""
        return Context(self.lab, self.state)

    def fleet(self, report: Report = quiet) -> Fleet:
        """The machines that run, over SSH.

        Raises:
            LabError: when none does, or the lab's network is not there.
        """
        return running(self.lab, self.provider, report)

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Keep other commands off this lab.

        Raises:
            LabError: at once, when another command holds it.
        """
        return state.lock(self.lab.directory)


def lab_name(option: str) -> str:
    """The lab that is meant: the option, else ``LAB_NAME``, else ``default``."""
    return option or os.environ.get("LAB_NAME", "") or "default"


def session(name: str = "") -> Session:
    """Open a lab that has been brought up before.

    Raises:
        LabError: when there is none of that name.
    """
    lab, recorded = open_lab(lab_name(name))
    if recorded is None:
        option = "" if lab.name == "default" else f" --lab {lab.name}"
        raise LabError(f"there is no lab {lab.name} yet", f"invoke lab.up{option}")
    return Session(lab, recorded, providers.of(recorded))


def task(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Invoke's task, with errors as one message and an exit status instead of a traceback.

    Args:
        options: as for ``invoke.task``; ``help`` gets a line for ``--lab`` by itself.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with errors(lab_name(str(kwargs.get("lab", "") or ""))):
                return function(*args, **kwargs)

        texts = {"lab": LAB_HELP, **options.pop("help", {})}
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        helped = {k: v for k, v in texts.items() if k.replace("-", "_") in names}
        return invoke_task(klass=LabTask, help=helped, **options)(wrapped)

    return decorate


@contextlib.contextmanager
def errors(name: str) -> Iterator[None]:
    """Show a `LabError` as its message, secrets hidden, and exit with its status."""
    try:
        yield
    except LabError as error:
        fail(str(error), name, error.status)
    except BrokenPipeError:
        # The reader has gone (`| head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except Exception as error:
        if os.environ.get("LAB_DEBUG"):
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        fail(
            f"unexpected {type(error).__name__} at {where}: {error}\n"
            "next: this is a fault of the lab's own code; LAB_DEBUG=1 shows where it comes from",
            name,
            70,
        )
    except KeyboardInterrupt:
        interrupted()


def interrupted() -> NoReturn:
    """End with 130, also when a second Ctrl-C left threads in the middle of something.

    They are not waited for: whatever they do can be killed at any moment and done again.
    """
    print("error: interrupted; the same command goes on from here", file=sys.stderr, flush=True)
    if threading.active_count() > 1:
        sys.stdout.flush()
        os._exit(130)
    raise SystemExit(130)


def fail(message: str, name: str, status: int) -> NoReturn:
    """Print a message to stderr, with the secrets of a lab hidden, and exit."""
    directory = ROOT / ".lab" / name
    if re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) and (directory / "secrets").is_dir():
        with contextlib.suppress(LabError):
            message = Secrets(directory).redact(message)
    print(f"error: {for_lab(message, name)}", file=sys.stderr)
    raise SystemExit(status)


def remainder() -> list[str]:
    """The words after ``--`` on the command line, as the shell gave them."""
    if "--" not in sys.argv:
        return []
    return sys.argv[sys.argv.index("--") + 1 :]


def number(text: str, name: str, low: float, high: float) -> float:
    """An argument that has to be a number.

    Raises:
        UsageError: when it is none, or outside its limits.
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise UsageError(f"{name} is {text!r}", f"a number from {low:g} to {high:g}")
    return value


def show_json(value: Any) -> None:
    """Print a value for programs."""
    print(json.dumps(value, indent=2, default=str))


def console() -> Any:
    """Rich's console for stdout: colours on a terminal, plain text elsewhere."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 160
    return Console(highlight=False, width=width)
