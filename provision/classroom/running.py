"""Run tasks in the labs of several teams, each in a process of its own, some at a time."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from provision.core import child_commands, classroom
from provision.core.atomic import write_atomically
from provision.core.classroom import Class, Team
from provision.core.errors import LabError, UsageError
from provision.core.exit_status import ExitStatus
from provision.core.report import Report

LOGS = "logs"
"""In the class's folder: the output of the last task in each lab."""

STOP_SECONDS = 15.0
"""For an interrupted task to roll back."""

PLACEHOLDERS = ("team", "lab", "seed", "course")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PROGRESS = re.compile(r" *[0-9.]+s  (.*)")
"""A line of `Progress`: what a task does at the moment."""


Words = Sequence[str]
"""A task and its arguments, without ``--lab``."""


@dataclass(frozen=True)
class TeamRun:
    """What the tasks in one lab did.

    Args:
        status: the exit status of the last task that ran.
        output: of all tasks, both streams.
        error: the line with the cause of the failure; empty after a success.
    """

    team: Team
    status: int
    seconds: float
    output: str = ""
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether all tasks succeeded."""
        return self.status == ExitStatus.SUCCESS


def at_once(count: int, requested: int = 0) -> int:
    """How many labs are worked on at a time: bringing up a lab keeps about one processor busy."""
    return max(1, min(count, requested or os.cpu_count() or 1))


def fill_in(words: Words, record: Class, team: Team) -> list[str]:
    """The words with ``{team}``, ``{lab}``, ``{seed}`` and ``{course}`` replaced.

    Raises:
        UsageError: when a word has another name in braces.
    """
    values = {"team": team.name, "lab": team.lab, "seed": team.seed, "course": record.course}

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            names = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise UsageError(f"unknown name {match[0]} in the task", f"known: {names}")
        return values[match[1]]

    return [re.sub(r"\{([a-z]+)\}", value, word) for word in words]


class Runner:
    """Runs tasks for teams.

    Args:
        root: the checkout.
        report: gets what each team's task does at the moment.
        parallel: labs at a time.
    """

    def __init__(self, root: Path, report: Report, parallel: int) -> None:
        self._root = root
        self._report = report
        self._parallel = parallel
        self._processes: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def each(
        self,
        teams: Sequence[Team],
        tasks: Callable[[Team], Sequence[Words]],
        done: Callable[[TeamRun], None] = lambda _run: None,
    ) -> list[TeamRun]:
        """Run the tasks of every team, one after the other, up to the first that fails.

        Args:
            done: called when a team is finished, in the order in which they finish.

        Returns:
            The results, in the teams' order.
        """
        runs: dict[str, TeamRun] = {}

        def run(team: Team) -> None:
            runs[team.name] = finished = self._run(team, tasks(team))
            with self._lock:
                done(finished)

        with ThreadPoolExecutor(max_workers=self._parallel) as pool:
            futures = [pool.submit(run, team) for team in teams]
            try:
                while wait(futures, timeout=0.2).not_done:
                    pass  # a wait without a timeout would block Ctrl-C
            except BaseException:
                self._stop(pool)
                raise
            for future in futures:
                future.result()
        return [runs[team.name] for team in teams]

    def _stop(self, pool: ThreadPoolExecutor) -> None:
        self._stopped = True
        pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            running = list(self._processes)
        for process in running:
            with contextlib.suppress(OSError):
                process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))

    def _run(self, team: Team, tasks: Sequence[Words]) -> TeamRun:
        started, status, lines = time.monotonic(), int(ExitStatus.SUCCESS), list[str]()
        for words in tasks:
            if self._stopped:
                status = int(ExitStatus.INTERRUPTED)
            if status:
                break
            self._report(team.name, words[0])
            status = self._task(team, words, lines)
        output = "".join(lines)
        try:
            write_atomically(classroom.folder(self._root) / LOGS / f"{team.lab}.log", output)
        except LabError as failed:  # the disk is full: what the tasks did is known nevertheless
            self._report(team.name, f"no log: {failed.what}")
        seconds = time.monotonic() - started
        error = reason(output) if status else ""
        self._report(team.name, f"failed: {error}" if status else f"done in {seconds:.0f} s")
        return TeamRun(team, status, seconds, output, error)

    def _task(self, team: Team, words: Words, lines: list[str]) -> int:
        """Run one task; its output is appended to the lines."""
        process = child_commands.start(
            [sys.executable, "-m", "invoke", *words],
            cwd=self._root,
            env={**os.environ, "LAB_NAME": team.lab, "COLUMNS": "100"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            errors="replace",
        )
        with self._lock:
            self._processes.add(process)
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                lines.append(_CONTROL.sub("", line))
                step = _PROGRESS.match(lines[-1])
                if step:
                    self._report(team.name, " ".join(step[1].split()))
        status = process.wait()
        child_commands.ended(process)
        with self._lock:
            self._processes.discard(process)
        return status if status >= 0 else 128 - status


def reason(output: str) -> str:
    """The line of an output with the cause of the failure."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or ["no output"])[-1]
