"""The programs of the set-up: ``up``, ``test`` and ``doctor``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from provision.setup.console import ROOT, SetupError

INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """Run a program with its arguments; its exit status."""
    name, *rest = arguments
    signal.signal(signal.SIGTERM, _interrupt)
    os.environ.setdefault("LAB_FROM", str(Path.cwd()))
    os.chdir(ROOT)
    try:
        return _run(name, rest)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("interrupted: run the same command again to continue", file=sys.stderr)
        return INTERRUPTED


def _run(name: str, arguments: Sequence[str]) -> int:
    if name == "up":
        from provision.setup import up

        return up.main(arguments)
    if name == "test":
        from provision.setup import tests

        return tests.main(arguments)
    from provision.setup import doctor

    return doctor.main(arguments)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
