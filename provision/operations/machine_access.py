"""Run programs as root inside a machine through its provider, when SSH is broken."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence

from provision.core.errors import HostError, LabError
from provision.core.waiting import timeout_factor
from provision.engine.agent.codec import decode, encode
from provision.engine.agent.originals import OriginalPath
from provision.engine.agent.owned import RECORD, Record
from provision.engine.agent.process import ProcessResult
from provision.operations.session import Session

ATTACH_SECONDS = 60.0 * timeout_factor()


def run_as_root(
    session: Session, name: str, *argv: str, stdin: str = "", timeout: float = ATTACH_SECONDS
) -> ProcessResult:
    """Run a program inside a machine and wait for it.

    Args:
        stdin: secrets belong here.

    Raises:
        ProviderError: when the provider cannot do that.
        HostError: when the program does not end in time.
    """
    command = session.provider.root_command(session.lab, name, argv, timeout)
    try:
        process = subprocess.run(
            command.argv,
            env=None if command.env is None else dict(command.env),
            cwd=command.folder,
            input=stdin.encode(),
            capture_output=True,
            check=False,
            timeout=timeout,
        )
    except FileNotFoundError:
        raise _not_installed(command.argv[0]) from None
    except subprocess.TimeoutExpired:
        raise HostError(
            f"{name}: {argv[0]} has not ended after {timeout:.0f} s, through the provider",
            f"invoke lab.rebuild {name} recreates the machine",
        ) from None
    return ProcessResult(
        process.returncode,
        process.stdout.decode(errors="replace"),
        process.stderr.decode(errors="replace"),
    )


def run_on_terminal(session: Session, name: str, argv: Sequence[str]) -> int:
    """Run a program, or a login shell, with this process's stdin and stdout; the exit status."""
    command = session.provider.root_command(session.lab, name, argv)
    env = os.environ if command.env is None else command.env
    try:
        return subprocess.run(
            command.argv, env=dict(env), cwd=command.folder, check=False
        ).returncode
    except FileNotFoundError:
        raise _not_installed(command.argv[0]) from None


def _not_installed(program: str) -> LabError:
    return LabError(f"{program} is not installed on this host", "invoke lab.doctor")


def read_originals(session: Session, name: str) -> Record:
    """The machine's record of its original files; empty without one that can be read."""
    result = run_as_root(session, name, "cat", RECORD)
    try:
        data = json.loads(result.stdout)
        return {
            key: {path: decode(OriginalPath, entry) for path, entry in entries.items()}
            for key, entries in data.items()
        }
    except (ValueError, AttributeError):
        return {}


def write_originals(session: Session, name: str, record: Record) -> None:
    """Replace the record; it contains the machine's private host key.

    Raises:
        HostError: when it cannot be written.
    """
    text = json.dumps(encode(record))
    script = 'umask 077; cat >"$1.new" && mv -T "$1.new" "$1"'
    result = run_as_root(session, name, "sh", "-c", script, "sh", RECORD, stdin=text)
    if not result.ok:
        raise HostError(
            f"{name}: {RECORD} cannot be written", "invoke lab.up", output=result.stderr
        )
