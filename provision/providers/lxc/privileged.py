"""Run programs as root on this host, always with argument lists and never through a shell."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from provision.core.errors import ProviderError
from provision.engine.agent.process import ProcessResult
from provision.setup.privileges import is_installed as is_installed
from provision.setup.privileges import search_path

UNDO_SECONDS = 5.0
"""For an interrupted program, such as to thaw machines."""


def run(
    action: str,
    argv: Sequence[str | os.PathLike[str]],
    *,
    stdin: bytes = b"",
    ok: Collection[int] = (0,),
    root: bool = True,
) -> ProcessResult:
    """Run a program on this host and wait for it.

    Args:
        action: for error messages, such as ``starting web-01``.
        argv: the program and its arguments. Secrets are passed through ``stdin`` instead.
        ok: exit statuses that are not an error; empty for all.
        root: run with sudo unless the current user is root.

    Raises:
        ProviderError: for any other exit status, or when the program does not exist.
    """
    words = [os.fspath(word) for word in argv]
    words = list(as_root(words)) if root else words
    environ = {**os.environ, "PATH": search_path(), "LC_ALL": "C.UTF-8"}
    try:
        process = _completed(words, stdin, environ)
    except FileNotFoundError:
        raise ProviderError(
            f"{action}: {words[0]} is not installed on this host",
            "scripts/up installs missing programs",
        ) from None
    result = ProcessResult(
        process.returncode,
        process.stdout.decode(errors="replace"),
        process.stderr.decode(errors="replace"),
    )
    if ok and result.status not in ok:
        sudo_failed = words[0] == "sudo" and result.stderr.startswith("sudo:")
        raise ProviderError(
            f"{action} failed on this host ({argv[0]}, status {result.status})",
            "sudo -v    # then run the same command again" if sudo_failed else "",
            output=result.output,
        )
    return result


def _completed(
    words: Sequence[str], stdin: bytes, environ: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end; an interrupted one gets time to undo what it has begun."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words, stdin=pipe, stdout=pipe, stderr=pipe, env=environ, cwd="/"
    ) as process:
        try:
            output, errors = process.communicate(stdin)
        except BaseException:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=UNDO_SECONDS)
            process.kill()
            raise
    return subprocess.CompletedProcess(words, process.returncode, output, errors)


def as_root(argv: Sequence[str]) -> tuple[str, ...]:
    """The command line that runs a program as root on this host."""
    return tuple(argv) if os.geteuid() == 0 else ("sudo", "-n", "--", *argv)


def write_file(path: Path, text: str) -> None:
    """Replace a file atomically, as root; every user may read it."""
    temporary = path.with_name(f".new.{os.getpid()}.{path.name}")
    action = f"writing {path}"
    run(action, ["install", "-m", "644", "/dev/stdin", temporary], stdin=text.encode())
    run(action, ["mv", "-T", "--", temporary, path])


def make_folders(*folders: Path, mode: str = "755") -> None:
    """Create folders as root; existing ones get the mode."""
    run(f"creating {folders[-1]}", ["install", "-d", "-m", mode, "--", *folders])


def remove_tree(*paths: Path) -> None:
    """Remove folders with their content, without crossing into other file systems."""
    run(f"removing {paths[0]}", ["rm", "-rf", "--one-file-system", "--", *paths])


def remove_in_background(path: Path) -> None:
    """Begin to remove a folder, also if this process ends before that."""
    words = as_root(["rm", "-rf", "--one-file-system", "--", str(path)])
    null = subprocess.DEVNULL
    subprocess.Popen(words, stdin=null, stdout=null, stderr=null, cwd="/", start_new_session=True)
