"""Messages of the set-up, and the programs that it runs with their output in a log."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The top directory of the checkout."""

LOG = Path(".lab", "setup.log")
"""The output of all programs of the last set-up, relative to `ROOT`."""

SHOWN_LINES = 20
PROGRESS_SECONDS = 30


USAGE = 2
"""The exit status of a wrong command line, as of the lab's commands."""


class SetupError(Exception):
    """What went wrong, and what to do next.

    Args:
        status: the exit status.
    """

    def __init__(self, what: str, hint: str = "", *, status: int = 1) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.status = status

    def __str__(self) -> str:
        return f"{self.what}\nnext: {self.hint}" if self.hint else self.what


def say(text: str) -> None:
    """Announce a step."""
    print(f"== {text}", flush=True)


def start_log() -> None:
    """Begin a new log."""
    path = ROOT / LOG
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")


def succeeds(
    argv: Sequence[str | Path],
    *,
    shown: bool = True,
    keep: Sequence[int] = (),
    environ: Mapping[str, str] | None = None,
) -> bool:
    """Run a program with its output in the log; a long one is reported every half minute.

    An interruption waits for the program, which has received the terminal's signal as well: a
    package manager must not be stopped half way.

    Args:
        shown: whether to print the last lines of its output when it fails.
        keep: file descriptors that it inherits.
    """
    words = [str(word) for word in argv]
    path = ROOT / LOG
    with path.open("ab") as log:
        log.write(f"\n$ {shlex.join(words)}\n".encode())
        log.flush()
        start = log.tell()
        try:
            process = subprocess.Popen(
                words,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(keep),
                env=environ,
            )
        except OSError as error:
            log.write(f"{error}\n".encode())
            status = 127
        else:
            status = _wait(process, words[0])
    if status and shown:
        lines = path.read_bytes()[start:].decode(errors="replace").splitlines()
        for line in lines[-SHOWN_LINES:]:
            print(f"  | {line}", file=sys.stderr)
    return status == 0


def _wait(process: subprocess.Popen[bytes], name: str) -> int:
    started = time.monotonic()
    try:
        while True:
            try:
                return process.wait(PROGRESS_SECONDS)
            except subprocess.TimeoutExpired:
                seconds = round(time.monotonic() - started)
                say(f"{Path(name).name} has been running for {seconds} s; its output is in {LOG}")
    except BaseException:
        process.wait()
        raise


def replace_process(argv: Sequence[str | Path]) -> int:
    """Continue as another program. Windows cannot do that: there, its exit status is returned."""
    words = [str(word) for word in argv]
    sys.stdout.flush()
    sys.stderr.flush()
    if not Path(words[0]).exists():
        raise SetupError(f"{words[0]} does not exist", "rm -r .venv, then run this again")
    if sys.platform == "win32":
        return _wait_for_exit(subprocess.Popen(words))
    os.execv(words[0], words)
    raise AssertionError  # it does not return


def _wait_for_exit(process: subprocess.Popen[bytes]) -> int:
    """The exit status of a program, which handles the console's Ctrl-C by itself."""
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            return process.wait()
