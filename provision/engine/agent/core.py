"""On the machine: running programs, and the two registries that requests are looked up in."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

Say = Callable[[str], None]
"""Tells the controller what is being done now."""

Job = Generator[None, None, Any]
"""A probe: it starts what it must, yields once, then waits for it and returns the answers."""

PROBES: dict[str, Callable[[list[dict[str, Any]]], Job]] = {}
ACTIONS: dict[str, Callable[..., None]] = {}


class Failed(Exception):  # noqa: N818 (an outcome, as in "the unit failed")
    """An action that did not succeed, with the last lines of what was said about it."""

    def __init__(self, what: str, output: str = "") -> None:
        super().__init__(what)
        self.output = "\n".join(output.strip().splitlines()[-30:])


@dataclass(frozen=True)
class Done:
    """A program that has ended."""

    status: int
    out: str
    err: str


def start(argv: list[str]) -> subprocess.Popen[bytes]:
    """Start a program whose output is read later."""
    return subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[bytes], timeout: float = 30.0) -> Done:
    """Wait for a started program; one that hangs is ended and counts as status 124."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        return Done(124, out.decode(errors="replace"), f"no end after {timeout:.0f} s")
    return Done(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


def run(argv: list[str], input: str = "", timeout: float = 60.0) -> Done:
    """Run a program to its end; ``timeout`` in seconds."""
    try:
        done = subprocess.run(
            argv, input=input.encode(), capture_output=True, timeout=timeout, check=False
        )
    except FileNotFoundError:
        return Done(127, "", f"no such program: {argv[0]}")
    except subprocess.TimeoutExpired:
        return Done(124, "", f"no end after {timeout:.0f} s: {' '.join(argv)}")
    return Done(
        done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )


def must(argv: list[str], input: str = "", timeout: float = 60.0) -> Done:
    """Run a program that has to succeed.

    Raises:
        Failed: with its output when it does not.
    """
    done = run(argv, input, timeout)
    if done.status != 0:
        raise Failed(f"{' '.join(argv)} ended with {done.status}", done.out + done.err)
    return done
