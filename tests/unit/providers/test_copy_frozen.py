"""The machines of a snapshot never stand still longer than the copy, whatever the user types."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.core.lab import ROOT
from provision.core.waiting import wait_until
from provision.providers.lxc.snapshot import SCRIPT

MACHINES = ("web-01", "web-02")

PROGRAMS = {
    "lxc-freeze": 'touch "$STATES/$4.frozen"',
    "lxc-unfreeze": 'sleep 0.6; touch "$STATES/$4.thawed"; rm -f "$STATES/$4.frozen"',
    "cp": 'sleep "$COPY_SECONDS"; exec /bin/cp "$@"',
}

PARENT = """
import sys
from provision.providers.lxc.privileged import run
run("creating snapshot x", sys.argv[1:], root=False)
"""


@pytest.fixture
def copying(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command that copies two machines, which are frozen; its states are files in `tmp_path`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    keys, new = tmp_path / "keys", tmp_path / "new"
    keys.mkdir()
    for name in MACHINES:
        (tmp_path / "lxc" / name / "delta").mkdir(parents=True)
        (tmp_path / "lxc" / name / "config").write_text("x")
        (keys / f"{name}.pub").write_text("x")
        (new / name).mkdir(parents=True)
    environ = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "STATES": str(tmp_path),
        "COPY_SECONDS": "0.7",
    }
    script = ["sh", str(SCRIPT), str(tmp_path / "lxc"), str(keys), str(new), "0"]
    argv = [sys.executable, "-c", PARENT, *script, " ".join(MACHINES), *MACHINES]
    null = subprocess.DEVNULL
    with subprocess.Popen(argv, env=environ, stderr=null, process_group=0) as process:
        wait_until(lambda: states(tmp_path, "frozen") == set(MACHINES), 30, "both to be frozen")
        yield process
        process.kill()


def states(folder: Path, state: str) -> set[str]:
    return {path.stem for path in folder.glob(f"*.{state}")}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("group", [True, False])
def test_an_interrupted_copy_thaws_the_machines(
    number: int, group: bool, copying: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    if group:
        os.killpg(copying.pid, number)
    else:
        if number == signal.SIGTERM:
            number = signal.SIGINT  # what provision/commands/signals.py makes of it
        copying.send_signal(number)
    copying.wait(30)
    wait_until(lambda: not states(tmp_path, "frozen"), 10, "both to be thawed")
    assert states(tmp_path, "thawed") == set(MACHINES)


def test_a_stopped_command_does_not_leave_machines_frozen(
    copying: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    os.killpg(copying.pid, signal.SIGTSTP)
    time.sleep(0.3)
    state = Path(f"/proc/{copying.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    assert state == "T"
    wait_until(lambda: not states(tmp_path, "frozen"), 10, "both to be thawed")
    os.killpg(copying.pid, signal.SIGCONT)
    assert copying.wait(30) == 0
    assert (tmp_path / "new" / "web-01" / "listing").exists()
