"""The virtual environment .venv: its layout, and how it is created from a lock file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from provision.setup.bundle import install
from provision.setup.console import LOG, ROOT, SetupError, say, succeeds

FOLDER = ROOT / ".venv"
STAMP = ".locks"
"""In `FOLDER`, written last: the Python, and the digests of the installed lock files."""

STARTUP = "lab-startup.pth"
CLOSED_PIPE = (
    "import signal, sys; sys.argv[0].endswith(('/invoke', '/inv'))"
    " and signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
)
"""The line of `STARTUP` in site-packages, which Python executes at each start (its module site).

Invoke prints ``--help`` and ``--version`` before it loads tasks.py. On a closed pipe, SIGPIPE ends
the program, as it ends `ls`; tasks ignore the signal (`commands/output.py`).
"""


def programs(folder: Path) -> Path:
    """Where a virtual environment has its programs (module venv of Python's library)."""
    return folder / ("Scripts" if sys.platform == "win32" else "bin")


def program(name: str, folder: Path | None = None) -> Path:
    """A program of .venv, or of another virtual environment."""
    return programs(folder or FOLDER) / (f"{name}.exe" if sys.platform == "win32" else name)


def base_python() -> str:
    """The Python that creates .venv: this one, outside of any virtual environment."""
    return str(getattr(sys, "_base_executable", "") or sys.executable)


def is_current(stamp: str, digest: str, python: str) -> bool:
    """Whether an environment with that stamp has the packages of a lock file.

    Args:
        python: the Python that the user demands; empty for any.
    """
    lines = stamp.splitlines()
    return digest in lines and (not python or f"python {python}" in lines)


def digest_of(lock: Path) -> str:
    """The digest of a lock file."""
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def create(locks: Sequence[str], pip: Sequence[str] = (), keep: Sequence[int] = ()) -> None:
    """Create .venv with the packages of the first lock file, or update it, unless it has them.

    Args:
        locks: file names in the checkout; the first one contains everything of the others.
        pip: further arguments of ``pip install``.
        keep: descriptors that long programs inherit (see `setup_lock`).

    Raises:
        SetupError: when the packages cannot be installed.
    """
    python, stamp = base_python(), FOLDER / STAMP
    demanded = python if os.environ.get("PYTHON") else ""
    digests = [digest_of(ROOT / lock) for lock in locks]
    text = stamp.read_text(encoding="utf-8") if stamp.is_file() else ""
    usable = bool(text) and _starts(program("python"))
    if usable and is_current(text, digests[0], demanded):
        end_at_closed_pipes(FOLDER)
        return
    if usable and (not demanded or f"python {demanded}" in text.splitlines()):
        say(f"updating .venv to {locks[0]}")
    else:
        say(f"creating .venv with {python}")
        _remove()
        if not _make(python, install.pip_wheel(ROOT), keep):
            hint = "sudo apt-get install python3-venv" if shutil.which("apt-get") else ""
            raise SetupError(f"{python} cannot create a virtual environment", hint)
    stamp.unlink(missing_ok=True)
    # --no-deps: the lock is complete, so pip does not need to resolve anything.
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]
    required = ["--require-hashes", "--requirement", locks[0]]
    argv: list[str | Path] = [program("python"), "-m", "pip", "install", *options, *pip, *required]
    if not succeeds(argv, keep=keep):
        raise SetupError(
            f"the Python packages of {locks[0]} could not be installed; see {LOG}",
            "check the network and pip's configuration (pip config list), then run this again",
        )
    end_at_closed_pipes(FOLDER)
    new = stamp.with_name(f"{STAMP}.new")
    new.write_text("\n".join([f"python {python}", *digests, ""]), encoding="utf-8")
    new.replace(stamp)


def end_at_closed_pipes(folder: Path) -> None:
    """Let Invoke exit silently when its output is a closed pipe.

    Windows has no SIGPIPE, and an environment that cannot be written stays as it is.
    """
    for packages in folder.glob("lib/python3*/site-packages"):
        with contextlib.suppress(OSError):
            (packages / STARTUP).write_text(CLOSED_PIPE, encoding="utf-8")


def _make(python: str, wheel: Path | None, keep: Sequence[int]) -> bool:
    """Create an empty environment with pip; returns whether that has succeeded.

    Args:
        wheel: of pip; None for the one that comes with Python.
    """
    if wheel is None:
        return succeeds([python, "-m", "venv", FOLDER], keep=keep)
    pip: list[str | Path] = [
        "--no-index",
        "--no-deps",
        "--quiet",
        "--disable-pip-version-check",
        wheel,
    ]
    return succeeds([python, "-m", "venv", "--without-pip", FOLDER], keep=keep) and succeeds(
        [program("python"), wheel / "pip", "install", *pip], keep=keep
    )


def _starts(python: Path) -> bool:
    """Whether a Python can be started: an upgrade of the distribution may have removed its base."""
    try:
        return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _remove() -> None:
    """Remove .venv; of a symbolic link, only the link."""
    try:
        if FOLDER.is_symlink():
            FOLDER.unlink()
        elif FOLDER.exists():
            shutil.rmtree(FOLDER)
    except OSError as error:
        raise SetupError(
            f".venv cannot be removed ({error})",
            "end the programs that use it, then run this again",
        ) from None
