"""Tasks in the labs of a class: some at a time, in order, interrupted together."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from provision.classroom.running import Runner, TeamRun, at_once, fill_in, reason
from provision.commands import class_labs, usage
from provision.core import classroom
from provision.core.classroom import Class, Team
from provision.core.errors import UsageError
from provision.core.lab import ROOT
from provision.core.waiting import wait_until

TASKS = """\
import os, pathlib, sys, time
from invoke.tasks import task
sys.path.insert(0, os.environ["CHECKOUT"])
from provision.commands import signals
signals.install()

@task
def good(c):
    print("   1.2s  web-01   greeting")
    print("hello from", os.environ["LAB_NAME"])

@task
def bad(c):
    print("error: it is broken\\nnext: repair it")
    raise SystemExit(3)

@task
def slow(c):
    own = pathlib.Path(f"running-{os.environ['LAB_NAME']}")
    own.touch()
    print(len(list(pathlib.Path().glob("running-*"))), flush=True)
    time.sleep(0.6)
    own.unlink()

@task
def rolling_back(c):
    own = pathlib.Path(f"pid-{os.environ['LAB_NAME']}")
    own.write_text(str(os.getpid()))
    try:
        time.sleep(300)
    except KeyboardInterrupt:
        time.sleep(1.0)
        pathlib.Path(f"rolled-back-{os.environ['LAB_NAME']}").touch()
        raise

@task
def ticking(c):
    own = pathlib.Path(f"ticks-{os.environ['LAB_NAME']}")
    while not pathlib.Path("enough").exists():
        with own.open("a") as file:
            file.write(".")
        time.sleep(0.05)

@task
def hang(c):
    pathlib.Path(f"pid-{os.environ['LAB_NAME']}").write_text(str(os.getpid()))
    time.sleep(300)
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose tasks touch no machine."""
    monkeypatch.setenv("CHECKOUT", str(ROOT))
    (tmp_path / "tasks.py").write_text(TASKS)
    return tmp_path


def teams(count: int) -> list[Team]:
    return [Team(f"t{n}", f"lab-{n}", f"10.1.{n}.0/24", "C", f"s{n}") for n in range(count)]


def quiet(_name: str, _text: str) -> None:
    pass


def test_every_team_gets_its_own_lab_and_results_keep_their_order(root: Path) -> None:
    finished: list[TeamRun] = []
    lines: list[tuple[str, str]] = []
    runner = Runner(root, lambda name, text: lines.append((name, text)), 2)
    runs = runner.each(teams(3), lambda _team: [["good"]], finished.append)
    assert [run.output.splitlines()[1] for run in runs] == [f"hello from lab-{n}" for n in range(3)]
    assert all(run.ok and not run.error for run in runs)
    assert {run.team.name for run in finished} == {"t0", "t1", "t2"}
    assert ("t1", "web-01 greeting") in lines
    assert not any("hello" in text for _, text in lines), "only progress is shown"
    log = classroom.folder(root) / "logs" / "lab-1.log"
    assert log.read_text() == runs[1].output


def test_a_failed_task_ends_the_tasks_of_its_team_only(root: Path) -> None:
    words = {"t0": [["bad"], ["good"]], "t1": [["good"], ["good"]]}
    runs = Runner(root, quiet, 2).each(teams(2), lambda team: words[team.name])
    assert [(run.status, run.error) for run in runs] == [(3, "it is broken"), (0, "")]
    assert runs[1].output.count("hello") == 2
    assert "hello" not in runs[0].output


def test_no_more_labs_at_a_time_than_requested(root: Path) -> None:
    runs = Runner(root, quiet, 2).each(teams(5), lambda _team: [["slow"]])
    at_a_time = [int(run.output) for run in runs]
    assert max(at_a_time) == 2
    assert at_once(5, 2) == 2
    assert at_once(1, 8) == 1
    assert at_once(0) == 1


def test_an_interrupt_ends_the_tasks_that_run(root: Path) -> None:
    code = (
        "import signal, sys; from pathlib import Path\n"
        "from provision.classroom.running import Runner; from provision.commands import signals\n"
        "from tests.unit.classroom.test_running import teams, quiet\n"
        "signals.install()\n"
        "Runner(Path(sys.argv[1]), quiet, 2).each(teams(4), lambda team: [['hang']])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(root)], cwd=ROOT, stderr=-3)
    wait_until(lambda: len(list(root.glob("pid-*"))) == 2, 30, "two tasks to run")
    pids = [int(path.read_text() or 0) for path in sorted(root.glob("pid-*"))]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) != 0

    def ended(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(lambda: all(map(ended, pids)), 10, "the tasks to end")
    time.sleep(0.5)
    assert len(list(root.glob("pid-*"))) == 2, "no further task was started"
    assert threading.active_count() >= 1


def in_a_terminal(task: str, root: Path) -> subprocess.Popen[bytes]:
    """Two teams run a task in a process group of their own, as a shell starts it."""
    code = (
        "import sys; from pathlib import Path\n"
        "from provision.classroom.running import Runner; from provision.commands import signals\n"
        "from tests.unit.classroom.test_running import teams, quiet\n"
        "signals.install()\n"
        f"Runner(Path(sys.argv[1]), quiet, 2).each(teams(2), lambda team: [[{task!r}]])\n"
    )
    argv = [sys.executable, "-c", code, str(root)]
    return subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.DEVNULL, process_group=0)


def test_ctrl_c_interrupts_a_task_once_and_waits_for_its_rollback(root: Path) -> None:
    """The terminal sends SIGINT to the whole group, and the runner ends its tasks."""
    process = in_a_terminal("rolling-back", root)
    wait_until(lambda: len(list(root.glob("pid-*"))) == 2, 30, "two tasks to run")
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) != 0
    assert len(list(root.glob("rolled-back-*"))) == 2


def test_ctrl_z_stops_the_tasks_too(root: Path) -> None:
    process = in_a_terminal("ticking", root)

    def ticks() -> int:
        return sum(path.stat().st_size for path in root.glob("ticks-*"))

    wait_until(lambda: len(list(root.glob("ticks-*"))) == 2, 30, "two tasks to run")
    os.killpg(process.pid, signal.SIGTSTP)
    time.sleep(0.5)
    before = ticks()
    time.sleep(0.5)
    assert ticks() == before
    os.killpg(process.pid, signal.SIGCONT)
    wait_until(lambda: ticks() > before + 4, 10, "the tasks to continue")
    (root / "enough").touch()
    assert process.wait(30) == 0


def test_a_full_disk_costs_only_the_log(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = classroom.folder(root) / "logs"
    folder.parent.mkdir(parents=True)
    folder.write_text("no folder")  # nothing can be written below it
    lines: list[str] = []
    runner = Runner(root, lambda _name, text: lines.append(text), 2)
    runs = runner.each(teams(2), lambda _team: [["good"]])
    assert all(run.ok for run in runs)
    assert any("no log" in line and "cannot be written" in line for line in lines)


def test_names_in_braces_are_filled_in() -> None:
    team = teams(1)[0]
    record = Class("x", "distributed", (team,), "T", course="/c.yml")
    words = ["drill.course", "{course}", "--team={team}", "{lab}/{seed}"]
    assert fill_in(words, record, team) == ["drill.course", "/c.yml", "--team=t0", "lab-0/s0"]
    with pytest.raises(UsageError, match=r"unknown name \{teem\}"):
        fill_in(["{teem}"], record, team)
    assert fill_in(["{}", "{A}", "a{1}"], record, team) == ["{}", "{A}", "a{1}"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "no task is given"),
        (["lab.chek"], "unknown task 'lab.chek'; did you mean lab.check?"),
        (["class.each"], "class.each is not about one lab"),
        (["lab.list"], "lab.list is not about one lab"),
        (["lab.check", "--lab", "x"], "chooses the lab itself"),
        (["lab.check", "--lab=x"], "chooses the lab itself"),
    ],
)
def test_a_task_that_cannot_run_in_every_lab_is_refused(
    words: list[str], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["lab.check", "lab.list", "class.each"]
    monkeypatch.setattr(usage, "_load_all", [lambda: names])
    class_labs._require_task(["lab.check", "--only", "site"])
    with pytest.raises(UsageError, match=re.escape(part)):
        class_labs._require_task(words)


def test_the_reason_is_the_last_error_or_the_last_line() -> None:
    assert reason("a\nerror: one\nnext: x\n") == "one"
    assert reason("a\nb\n") == "b"
    assert reason("") == "no output"
