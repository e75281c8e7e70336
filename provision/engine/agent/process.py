"""Running programs: on a machine and, with the same result type, on the controller."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Log = Callable[[str], None]
"""Reports progress, one line per call."""

TIMED_OUT = 124
"""Status of a program that was killed at its timeout, as timeout(1) has it."""

NOT_FOUND = 127
"""Status of a program that does not exist, as in a shell."""

OUTPUT_LINES = 30
"""How many of the last lines of a program's output an error carries."""


class AgentError(Exception):
    """Something on a machine failed.

    Args:
        what: one line.
        output: what the program printed; the last lines are kept.
    """

    def __init__(self, what: str, output: str = "") -> None:
        super().__init__(what)
        self.output = "\n".join(output.strip().splitlines()[-OUTPUT_LINES:])


@dataclass(frozen=True)
class ProcessResult:
    """A program that has ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether it exited with 0."""
        return self.status == 0

    @property
    def output(self) -> str:
        """Both streams, for an error message."""
        return self.stdout + self.stderr


def start(argv: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a program; `finish` reads its output."""
    return subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[bytes], timeout: float = 30.0) -> ProcessResult:
    """Wait for a started program, and kill it after ``timeout`` seconds (status `TIMED_OUT`)."""
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        stdout, _ = process.communicate()
        return ProcessResult(TIMED_OUT, _text(stdout), f"timed out after {timeout:.0f} s")
    return ProcessResult(process.returncode, _text(stdout), _text(stderr))


def run(argv: Sequence[str], input: str = "", timeout: float = 60.0) -> ProcessResult:
    """Run a program, and kill it after ``timeout`` seconds (status `TIMED_OUT`).

    Args:
        argv: the program and its arguments; no shell is involved.
        input: text for its stdin.
        timeout: seconds.
    """
    try:
        done = subprocess.run(
            argv, input=input.encode(), capture_output=True, timeout=timeout, check=False
        )
    except FileNotFoundError:
        return ProcessResult(NOT_FOUND, "", f"{argv[0]}: command not found")
    except subprocess.TimeoutExpired:
        return ProcessResult(TIMED_OUT, "", f"timed out after {timeout:.0f} s: {shlex.join(argv)}")
    return ProcessResult(done.returncode, _text(done.stdout), _text(done.stderr))


def must(argv: Sequence[str], input: str = "", timeout: float = 60.0) -> ProcessResult:
    """Run a program that has to succeed.

    Raises:
        AgentError: with its output when it does not.
    """
    result = run(argv, input, timeout)
    if not result.ok:
        raise AgentError(f"{shlex.join(argv)} exited with {result.status}", result.output)
    return result


def _text(output: bytes) -> str:
    return output.decode(errors="replace")
