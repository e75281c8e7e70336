"""Exit statuses over every way of ending, and output that cannot be written."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from provision.commands import base
from provision.commands.output import TolerantOutput
from provision.core import clock
from provision.core.errors import LabError, ProviderError, TopologyError, UsageError
from provision.core.exit_status import ExitStatus
from provision.core.lab import ROOT
from tests.unit.test_commands import INVOKE

TASK = """
import os, signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
sys.path.insert(0, {root!r})
from provision.commands import base
from provision.core.errors import LabError, UsageError
from provision.core.exit_status import ExitStatus

@base.task()
def work(c, lab=""):
    print("line\\n" * {lines}, flush=True)
    time.sleep({pause})
    print("more")
    {end}
    print("finished", file=sys.stderr)

from invoke.context import Context
work(Context())
"""


def program(end: str = "pass", *, lines: int = 1, pause: float = 0.0) -> list[str]:
    """A command whose task prints, and ends with a statement."""
    return [
        sys.executable,
        "-c",
        TASK.format(root=str(ROOT), end=end, lines=lines, pause=pause),
    ]


ENDS = [
    ("pass", ExitStatus.SUCCESS),
    ("raise LabError('x')", ExitStatus.FAILED),
    ("raise UsageError('x')", ExitStatus.USAGE),
    ("raise SystemExit(int(ExitStatus.CHANGES_PENDING))", ExitStatus.CHANGES_PENDING),
    ("raise ValueError('x')", ExitStatus.BUG),
    ("raise OSError(28, 'No space left on device', '/x/y')", ExitStatus.FAILED),
    ("raise OSError(71, 'Protocol error', '/x/y')", ExitStatus.BUG),
    ("raise KeyboardInterrupt", ExitStatus.INTERRUPTED),
    ("os.kill(os.getpid(), 15); time.sleep(5)", ExitStatus.INTERRUPTED),
    ("os.kill(os.getpid(), 1); time.sleep(5)", ExitStatus.INTERRUPTED),
    ("raise SystemExit(7)", 7),
    ("raise SystemExit", ExitStatus.SUCCESS),
]


@pytest.mark.parametrize(("end", "status"), ENDS)
def test_every_way_of_ending_has_its_status(end: str, status: int) -> None:
    done = subprocess.run(program(end), capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == status
    assert done.stdout == "line\n\nmore\n"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/y z"),
            "error: /x/y z cannot be written: No space left on device\nnext: df -h /x\n",
        ),
        (
            OSError(errno.EROFS, "Read-only"),
            "error: a file of this computer cannot be written: Read-only\nnext: df -h\n",
        ),
    ],
)
def test_a_full_disk_is_no_bug_wherever_it_is_noticed(
    error: OSError, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, base.errors("x"):
        raise error
    assert caught.value.code == ExitStatus.FAILED
    assert capsys.readouterr().err == text


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(("end", "status"), ENDS[:4])
def test_a_closed_pipe_changes_nothing(
    end: str, status: int, unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like `| head -1`: the reader ends while the command still prints."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    read, write = os.pipe()
    command = program(end, lines=20_000)
    with subprocess.Popen(command, stdout=write, stderr=subprocess.PIPE, text=True) as process:
        os.close(write)
        os.read(read, 10)
        os.close(read)
        _, printed = process.communicate(timeout=30)
    assert process.returncode == status
    assert ("finished" in printed) == (end == "pass")
    assert "Traceback" not in printed
    assert "Broken" not in printed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize(("end", "status"), ENDS[:4])
def test_a_full_disk_is_a_failure(end: str, status: int) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            program(end), stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=30
        )
    assert done.returncode == (status or ExitStatus.FAILED)
    assert "error: the output cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["1", "2", "0", "1 2", "0 1 2"])
def test_closed_descriptors(closed: str) -> None:
    """No file that is opened later may get the number of standard output."""
    shell = "exec " + " ".join(f"{number}>&-" for number in closed.split())
    end = "assert os.open('/dev/null', os.O_RDONLY) > 2"
    done = subprocess.run(
        ["bash", "-c", f'{shell}; "$@"', "bash", *program(end)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == (ExitStatus.FAILED if "1" in closed else ExitStatus.SUCCESS)
    assert "Traceback" not in done.stderr
    if closed == "1":
        assert "error: the output cannot be written: Bad file descriptor" in done.stderr


@pytest.mark.parametrize("words", [["--list"], ["lab.up", "--help"], ["lab.completion", "bash"]])
def test_invokes_own_output(words: list[str]) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [INVOKE, *words],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=30,
        )
    assert done.returncode == ExitStatus.FAILED
    assert done.stderr == "error: the output cannot be written: No space left on device\n"


def test_ctrl_z(tmp_path: Path) -> None:
    """The command continues where it was; its deadlines do not pass meanwhile."""
    flag = tmp_path / "flag"
    wait = f"wait_until(lambda: os.path.exists({str(flag)!r}), 4.0, 'it')"
    command = program(f"from provision.core.waiting import wait_until; {wait}")
    pipe = subprocess.PIPE
    # The kernel does not stop processes of an orphaned group, such as that of a background job.
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, process_group=0) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.3)
        process.send_signal(signal.SIGTSTP)
        time.sleep(4.5)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        flag.touch()
        _, printed = process.communicate(timeout=30)
    assert process.returncode == ExitStatus.SUCCESS, printed
    assert "Traceback" not in printed


def test_the_clock_stands_still_while_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 10.0, 70.0, 71.0])
    monkeypatch.setattr(clock, "_stopped_seconds", 0.0)
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    before = clock.now()
    clock.stop()
    assert clock.now() == before
    clock.resume()
    assert clock.now() == before + 1.0
    assert clock.stopped_seconds() == 60.0


class Interrupting(io.RawIOBase):
    """Accepts a few bytes, then fails."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.taken = room, b""

    def write(self, data: object) -> int:
        if not self.room:
            raise OSError(errno.EIO, "gone")
        part = bytes(data)[: self.room]  # type: ignore[call-overload]
        self.room -= len(part)
        self.taken += part
        return len(part)


def test_partial_writes_are_continued_and_errors_kept() -> None:
    raw = Interrupting(3)
    output = TolerantOutput(raw, 1)
    assert output.write(b"abcdef") == 6
    assert raw.taken == b"abc"
    assert output.error is not None
    assert output.error.errno == errno.EIO
    assert output.write(b"more") == 4
    assert raw.taken == b"abc"


# --- one enumeration, documented ------------------------------------------------------------------


def test_the_readme_lists_every_status() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE))
    assert rows == {str(int(status)): status.meaning for status in ExitStatus}


def test_statuses_are_written_nowhere_else() -> None:
    number = re.compile(r"SystemExit\(\d|sys\.exit\(\d|os\._exit\(\d|status=\d")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / "provision").rglob("*.py")
        if "agent" not in path.parts and "app" not in path.relative_to(ROOT).parts[:2]
        for line in path.read_text(encoding="utf-8").splitlines()
        if number.search(line)
    ]
    assert not found


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LabError("x"), ExitStatus.FAILED),
        (ProviderError("x"), ExitStatus.FAILED),
        (TopologyError("x"), ExitStatus.FAILED),
        (UsageError("x"), ExitStatus.USAGE),
    ],
)
def test_the_status_of_errors(error: LabError, status: int) -> None:
    with pytest.raises(SystemExit) as caught, base.errors("x"):
        raise error
    assert caught.value.code == status
