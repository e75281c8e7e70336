"""Real machines for the live tests: one lab for the session, more by name where a test needs them.

The commands run as a user types them, in a process of their own. Nothing is sent to a lab's
addresses unless its bridge is up on this host. Whatever happens, every lab is removed at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
import requests

from provision import topology
from provision.commands.base import Session, session
from provision.core.lab import ROOT, Lab
from provision.engine.fleet import Fleet
from provision.engine.host import Result
from provision.topology import labs
from tests.live.order import LIVE, STAGES, Scheduler, order

INVOKE = str(Path(sys.executable).with_name("invoke"))
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
"""Which of pytest's workers this is, such as ``gw0``; empty when there is one process."""

PREFIX = os.environ.get("LAB_TEST_PREFIX", "t-") + (f"{WORKER}-" if WORKER else "")
"""Labs of the tests begin with it; a run removes what an earlier, killed one has left. Two runs in
one checkout at once need two prefixes, as pytest's workers have."""


def pool() -> IPv4Network | None:
    """Where labs of the tests go: None for the product's own choice.

    Workers that make labs at once have a part each of a network of their own, and so has a host on
    which several people run tests (LAB_TEST_POOL).
    """
    said = os.environ.get("LAB_TEST_POOL", "")
    if not WORKER:
        return IPv4Network(said) if said else None
    parts = list(IPv4Network(said or "10.254.0.0/17").subnets(prefixlen_diff=3))
    return parts[int(WORKER.removeprefix("gw")) % len(parts)]


def network_option(name: str) -> list[str]:
    """The option of lab.up that puts a new lab into a free network of `pool`; often nothing."""
    within = pool()
    if within is None:
        return []
    read = topology.load(topology.find("distributed", ROOT))
    used = labs.taken_networks(Lab(name, ROOT, read))
    free = (
        network
        for network in within.subnets(new_prefix=24)
        if not any(network.overlaps(other) for other in used)
    )
    return ["--network", str(next(free))]


def assert_clean(said: str) -> None:
    """No traceback, and no error that the code did not foresee."""
    assert "Traceback" not in said, said
    assert "error: unexpected" not in said, said


class Watched:
    """A running command whose output is followed line by line.

    Args:
        process: it, with stdout as text.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self.lines.append(line.rstrip())

    @property
    def said(self) -> str:
        """Everything up to now."""
        return "\n".join(self.lines)

    def until(self, text: str, seconds: float = 120.0) -> None:
        """Wait until a line holds this text; the command must not have ended before."""
        deadline = time.monotonic() + seconds
        while not any(text in line for line in list(self.lines)):
            ended = self.process.poll() is not None and not self._reader.is_alive()
            assert not ended, f"ended before it said {text!r}:\n{self.said}"
            assert time.monotonic() < deadline, f"not said in {seconds} s: {text!r}\n{self.said}"
            time.sleep(0.005)

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the command; to its whole group as a terminal's Ctrl-C does."""
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def end(self, seconds: float = 120.0) -> int:
        """Wait for its end; returns the exit status."""
        status = self.process.wait(seconds)
        self._reader.join(5)
        assert_clean(self.said)
        return status


@dataclass
class RunningLab:
    """A lab of the tests, used through its commands.

    Args:
        name: of the lab.
        options: more environment for the commands.
    """

    name: str
    options: dict[str, str] = field(default_factory=dict)

    def command(self, *words: str) -> list[str]:
        """A task's command line for this lab; words after ``--`` stay last."""
        words_before = words[: words.index("--")] if "--" in words else words
        rest = words[len(words_before) :]
        place: list[str] = []
        if words[0] == "lab.up" and "--network" not in words and self.name not in labs.labs():
            place = network_option(self.name)
        return [INVOKE, *words_before, "--lab", self.name, *place, *rest]

    def invoke(
        self,
        *words: str,
        check: bool = True,
        timeout: float = 400,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a task to its end.

        Args:
            words: the task and its arguments.
            check: whether a failure of the command fails the test.
            timeout: seconds.
            env: more environment.
        """
        done = subprocess.run(
            self.command(*words),
            cwd=ROOT,
            text=True,
            capture_output=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self.options, **(env or {})},
            check=False,
        )
        said = done.stdout + done.stderr
        assert_clean(said)
        if check:
            assert done.returncode == 0, f"{' '.join(words)} ended with {done.returncode}:\n{said}"
        return done

    def invoke_bare(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a task that is about no lab in particular."""
        done = subprocess.run(
            [INVOKE, *words], cwd=ROOT, text=True, capture_output=True, timeout=60, check=False
        )
        assert_clean(done.stdout + done.stderr)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def start(self, *words: str, env: dict[str, str] | None = None) -> Watched:
        """Start a task and return; its output is one stream, line by line."""
        return Watched(
            subprocess.Popen(
                self.command(*words),
                cwd=ROOT,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **self.options, "PYTHONUNBUFFERED": "1", **(env or {})},
            )
        )

    def up(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run lab.up."""
        return self.invoke("lab.up", *words)

    def session(self) -> Session:
        """The lab as the code knows it, read anew."""
        return session(self.name)

    def fleet(self) -> Fleet:
        """Its machines over SSH; use it with ``with``."""
        return self.session().fleet()

    def run(self, machine: str, *argv: str, input: str = "") -> Result:
        """Run one program on a machine as root, over a connection of its own."""
        with self.fleet() as fleet:
            return fleet.host(machine).run(*argv, input=input)

    def out(self, machine: str, *argv: str, input: str = "") -> str:
        """What a program on a machine prints; it must succeed."""
        done = self.run(machine, *argv, input=input)
        assert done.ok, f"{machine}: {' '.join(argv)}: {done.status}\n{done.out}{done.err}"
        return done.out

    def sql(self, machine: str, statement: str) -> str:
        """What MySQL answers to root on a machine's own socket: rows of tab-separated values."""
        return self.out(machine, "mysql", "--batch", "--skip-column-names", input=statement).strip()

    @property
    def url(self) -> str:
        """The front's address, once its network is known to be on this host."""
        now = self.session()
        assert now.provider.link_problem(now.lab) == ""
        return now.lab.url

    def get(self, path: str = "/", **options: object) -> requests.Response:
        """One request through the balancer on a connection of its own."""
        with requests.Session() as http:
            http.trust_env = False
            http.verify = str(ROOT / ".lab" / self.name / "ca.pem")
            return http.get(self.url + path, timeout=10, **options)  # type: ignore[arg-type]

    def post(self, path: str, body: object) -> requests.Response:
        """One write through the balancer, as JSON."""
        with requests.Session() as http:
            http.trust_env = False
            http.verify = str(ROOT / ".lab" / self.name / "ca.pem")
            return http.post(self.url + path, json=body, timeout=10)

    def destroy(self) -> None:
        """Remove it, whether it was ever complete or not."""
        done = self.invoke("lab.destroy", "--yes", check=False, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr


def wait_until(true: Callable[[], bool], what: str, seconds: float = 20.0) -> float:
    """Poll until something is true; returns the seconds it took, fails at the deadline."""
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < seconds, f"not after {seconds} s: {what}"
        time.sleep(0.1)
    return time.monotonic() - started


@pytest.fixture(scope="session", autouse=True)
def _nothing_left() -> Iterator[None]:
    """Remove labs of earlier test runs first, and all of this run's afterwards."""
    _sweep()
    yield
    _sweep()


def _sweep() -> None:
    for path in sorted((ROOT / ".lab").glob(f"{PREFIX}*")):
        RunningLab(path.name).destroy()
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def lab() -> Iterator[RunningLab]:
    """The session's lab: up, all checks passed."""
    running = RunningLab(f"{PREFIX}main")
    running.up()
    yield running
    running.destroy()


@pytest.fixture(scope="session")
def secured_lab() -> Iterator[RunningLab]:
    """The session's lab of the stage ``secured``, from nothing: up, all checks passed.

    A test that breaks it mends it.
    """
    running = RunningLab(PREFIX + "secured")
    running.up("--topology", "secured")
    yield running
    running.destroy()


@pytest.fixture(scope="session")
def stages() -> Iterator[RunningLab]:
    """The session's lab that changes its design; made when a test first needs it."""
    running = RunningLab(f"{PREFIX}stages")
    yield running
    running.destroy()


def brought_to(lab: RunningLab, topology: str) -> RunningLab:
    """The lab in a design; nothing is done when it is there."""
    if lab.name not in labs.labs() or lab.session().state.topology != topology:
        lab.up("--topology", topology, "--yes")
    return lab


@pytest.fixture
def scaled(stages: RunningLab) -> RunningLab:
    """The design that has every part twice: eight machines, made once for all tests."""
    return brought_to(stages, "scaled")


@pytest.fixture
def mended(lab: RunningLab) -> Iterator[RunningLab]:
    """The session's lab for a test that breaks it: afterwards lab.up mends what is left."""
    yield lab
    lab.up()


@pytest.fixture
def other_lab() -> Iterator[Callable[[str], RunningLab]]:
    """Makes names for labs of a test's own; they are removed after it."""
    made: list[RunningLab] = []

    def make(name: str, **options: str) -> RunningLab:
        made.append(RunningLab(PREFIX + name, options))
        return made[-1]

    yield make
    for each in made:
        each.destroy()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run a live test that failed once more, and say so (`RERUN` in the report).

    Machines that share a computer stall for seconds now and then; what is really broken fails
    twice. Tests of the other designs, which boot labs of their own for minutes, are marked.
    """
    for item in items:
        if LIVE in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=1))
            if item.path.stem.split("_")[1] in STAGES:
                item.add_marker(pytest.mark.stages)
    items.sort(key=order)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduler:
    """How workers share the tests."""
    return Scheduler(config, log)
