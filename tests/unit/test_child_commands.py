"""Children of a command are interrupted once, and waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from provision.core import child_commands
from provision.core.errors import LabError
from provision.core.lab import ROOT
from provision.core.waiting import wait_until

CHILD = """
import pathlib, signal, time
from provision.commands import signals
signals.install()
pathlib.Path("begun").touch()
try:
    time.sleep(300)
except KeyboardInterrupt:
    time.sleep(1.0)
    pathlib.Path("rolled-back").touch()
"""

PARENT = """
import sys
import pytest

from provision.core import child_commands
from provision.core.errors import LabError
child_commands.run([sys.executable, "-c", sys.argv[1]])
"""


def test_ctrl_c_waits_for_the_rollback_of_the_child(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", PARENT, CHILD]
    null = subprocess.DEVNULL
    with subprocess.Popen(argv, cwd=tmp_path, env=environ, stderr=null, process_group=0) as parent:
        wait_until((tmp_path / "begun").exists, 30, "the child to begin")
        os.killpg(parent.pid, signal.SIGINT)  # as the terminal does
        assert parent.wait(30) != 0
    assert (tmp_path / "rolled-back").exists()


def test_a_child_that_takes_too_long_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"has not ended after 1 s"):
        child_commands.output([sys.executable, "-c", "import time; time.sleep(60)"], 1.0)
    assert not child_commands._running
    assert child_commands.output([sys.executable, "-c", "print(1)"], 30) == "1\n"


def test_the_status_of_the_child() -> None:
    assert child_commands.run([sys.executable, "-c", "raise SystemExit(7)"]) == 7
    assert not child_commands._running
