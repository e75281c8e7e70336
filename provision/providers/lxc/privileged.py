"""The one way to do something as root on this host: argument lists, never shell text."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from provision.core.errors import ProviderError

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
"""Not in an ordinary user's PATH on Debian, but the programs are there."""


@dataclass(frozen=True)
class Done:
    """What a program said.

    Args:
        status: its exit status; negative: ended by that signal.
        out: standard output.
        errors: standard error.
    """

    status: int
    out: str
    errors: str

    @property
    def said(self) -> str:
        """Everything, for an error message."""
        return f"{self.out}\n{self.errors}".strip()


def run(
    doing: str,
    argv: Sequence[str | os.PathLike[str]],
    *,
    stdin: bytes = b"",
    ok: Collection[int] = (0,),
    root: bool = True,
) -> Done:
    """Run a program on this host and wait for it.

    Args:
        doing: for the error message, such as ``starting web-01``.
        argv: the program and its arguments; secrets are never among them.
        stdin: what it reads; secrets may be in it.
        ok: exit statuses that are no error; empty: all.
        root: whether it needs root's rights; ``sudo`` is put before it when we are not root.

    Raises:
        ProviderError: for any other exit status, or when there is no such program.
    """
    words = [os.fspath(word) for word in argv]
    if root and os.geteuid() != 0:
        words = ["sudo", "-n", "--", *words]
    environ = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{SBIN}", "LC_ALL": "C.UTF-8"}
    try:
        process = subprocess.run(
            words, input=stdin, capture_output=True, check=False, env=environ, cwd="/"
        )
    except FileNotFoundError:
        raise ProviderError(
            f"{doing}: there is no program {words[0]} on this host",
            "scripts/up installs what is missing",
        ) from None
    done = Done(
        process.returncode,
        process.stdout.decode(errors="replace"),
        process.stderr.decode(errors="replace"),
    )
    if ok and done.status not in ok:
        advice = ""
        if words[0] == "sudo" and done.errors.startswith("sudo:"):
            advice = "sudo -v    # then run this again"
        raise ProviderError(
            f"{doing} failed on this host ({argv[0]}, status {done.status})",
            advice,
            output=done.said,
        )
    return done


def program(name: str) -> bool:
    """Whether there is such a program, for us or for root."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SBIN}") is not None


def write(path: Path, text: str) -> None:
    """Write a file of root's at once or not at all."""
    new = path.with_name(f".new.{os.getpid()}.{path.name}")
    doing = f"writing {path}"
    run(doing, ["install", "-m", "644", "/dev/stdin", new], stdin=text.encode())
    run(doing, ["mv", "-T", "--", new, path])
