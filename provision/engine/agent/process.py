"""Running programs: on a machine and, with the same result type, on the controller."""

from __future__ import annotations

import contextlib
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


KILLED_SECONDS = 2.0
"""Seconds to wait for the end of a program that was killed."""

CHILDREN: set[subprocess.Popen[bytes]] = set()
"""The programs that run."""


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


def run(argv: Sequence[str], input: str = "", timeout: float = 60.0) -> ProcessResult:
    """Run a program, and kill it after ``timeout`` seconds (status `TIMED_OUT`).

    Args:
        argv: the program and its arguments; no shell is involved.
        input: text for its stdin.
        timeout: seconds.
    """
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe)
    except FileNotFoundError:
        return ProcessResult(NOT_FOUND, "", f"{argv[0]}: command not found")
    CHILDREN.add(process)
    return _communicate(process, input.encode(errors="surrogateescape"), timeout, argv)


def _communicate(
    process: subprocess.Popen[bytes], data: bytes | None, timeout: float, argv: Sequence[str]
) -> ProcessResult:
    try:
        stdout, stderr = process.communicate(data, timeout)
        return ProcessResult(process.returncode, _text(stdout), _text(stderr))
    except subprocess.TimeoutExpired as late:
        process.kill()
        # Its children may hold the pipes, and a program that waits for a disk cannot be killed.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=KILLED_SECONDS)
        text = f"timed out after {timeout:.0f} s: {shlex.join(argv)}"
        return ProcessResult(TIMED_OUT, _text(late.stdout or b""), text)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        CHILDREN.discard(process)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def kill_children() -> None:
    """Kill the programs that still run after the controller has gone."""
    for process in list(CHILDREN):
        with contextlib.suppress(OSError):
            process.kill()


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
