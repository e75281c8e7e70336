"""Real machines for the live tests: one lab per session, and further ones for single tests.

Commands run as a user runs them, each in its own process. Nothing is sent to a lab's addresses
unless its bridge is up on this host. Every lab is removed at the end, also after a failure.
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
from provision.core.lab import ROOT, Lab
from provision.core.state import lab_names
from provision.engine.agent.process import ProcessResult
from provision.engine.fleet import Fleet
from provision.operations.session import Session, open_session
from provision.providers.incus import record as incus_record
from provision.topology import networks
from tests import json_schema
from tests.live.order import (
    CLASSROOM,
    DIAGNOSIS,
    DRILLS,
    INCUS,
    LIVE,
    Scheduler,
    order,
    topology_group,
)

INVOKE = str(Path(sys.executable).with_name("invoke"))
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
"""The name of this pytest worker, such as ``gw0``; empty without workers."""

PREFIX = os.environ.get("LAB_TEST_PREFIX", "t-") + (f"{WORKER}-" if WORKER else "")
"""Names of test labs start with it; a run removes the labs that an earlier, killed run left behind.
Concurrent runs in one checkout need different prefixes, as pytest's workers have."""


def pool() -> IPv4Network | None:
    """The network from which test labs get their subnets; None for the product's own choice.

    Each worker has its own part of it. LAB_TEST_POOL sets another one, for a host that several
    people share.
    """
    pool = os.environ.get("LAB_TEST_POOL", "")
    if not WORKER:
        return IPv4Network(pool) if pool else None
    parts = list(IPv4Network(pool or "10.254.0.0/17").subnets(prefixlen_diff=3))
    return parts[int(WORKER.removeprefix("gw")) % len(parts)]


def network_option(name: str) -> list[str]:
    """The option of lab.up that selects a free subnet of `pool`; empty without a pool."""
    network_pool = pool()
    if network_pool is None:
        return []
    distributed = topology.load(topology.find("distributed", ROOT))
    used = networks.used_networks(Lab(name, ROOT, distributed))
    free = (
        network
        for network in network_pool.subnets(new_prefix=24)
        if not any(network.overlaps(other) for other in used)
    )
    return ["--network", str(next(free))]


def assert_no_traceback(output: str) -> None:
    """Fail on a traceback or on an error that the code did not expect."""
    assert "Traceback" not in output, output
    assert "error: unexpected" not in output, output


class RunningCommand:
    """A running command whose output is read line by line; its stdout must be text."""

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
    def output(self) -> str:
        """The output so far."""
        return "\n".join(self.lines)

    def wait_for_output(self, text: str, seconds: float = 120.0) -> None:
        """Wait until a line contains this text; fail when the command ends before that."""
        deadline = time.monotonic() + seconds
        while not any(text in line for line in list(self.lines)):
            ended = self.process.poll() is not None and not self._reader.is_alive()
            assert not ended, f"ended before it printed {text!r}:\n{self.output}"
            late = f"not printed in {seconds} s: {text!r}\n{self.output}"
            assert time.monotonic() < deadline, late
            time.sleep(0.005)

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the command, or to its process group as a terminal's Ctrl-C does."""
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def wait(self, seconds: float = 120.0) -> int:
        """Wait until it exits; returns the exit status."""
        status = self.process.wait(seconds)
        self._reader.join(5)
        assert_no_traceback(self.output)
        return status


@dataclass
class RunningLab:
    """A test lab, used through its commands; `options` are environment variables for them."""

    name: str
    options: dict[str, str] = field(default_factory=dict)

    def command(self, *words: str) -> list[str]:
        """A task's command line for this lab; words after ``--`` stay last."""
        words_before = words[: words.index("--")] if "--" in words else words
        rest = words[len(words_before) :]
        network: list[str] = []
        if words[0] == "lab.up" and "--network" not in words and self.name not in lab_names():
            network = network_option(self.name)
        return [INVOKE, *words_before, "--lab", self.name, *network, *rest]

    def invoke(
        self,
        *words: str,
        check: bool = True,
        timeout: float = 400,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a task until it exits; with `check`, a failure fails the test."""
        result = subprocess.run(
            self.command(*words),
            cwd=ROOT,
            text=True,
            capture_output=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self.options, **(env or {})},
            check=False,
        )
        output = result.stdout + result.stderr
        assert_no_traceback(output)
        if check:
            failure = f"{' '.join(words)} exited with {result.returncode}:\n{output}"
            assert result.returncode == 0, failure
        return result

    def json(self, *words: str, check: bool = True, timeout: float = 400) -> dict[str, Any]:
        """Run a task with ``--json``; its values, validated against the schema of its kind."""
        words_before = words[: words.index("--")] if "--" in words else words
        rest = words[len(words_before) :]
        result = self.invoke(*words_before, "--json", *rest, check=check, timeout=timeout)
        document = json_schema.document(result.stdout)
        assert document["exit_code"] == result.returncode, result.stdout
        assert document["data"] is not None, result.stdout
        data: dict[str, Any] = document["data"]
        return data

    def invoke_bare(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a task without --lab."""
        result = subprocess.run(
            [INVOKE, *words], cwd=ROOT, text=True, capture_output=True, timeout=60, check=False
        )
        assert_no_traceback(result.stdout + result.stderr)
        assert result.returncode == 0, result.stdout + result.stderr
        return result

    def start(self, *words: str, env: dict[str, str] | None = None) -> RunningCommand:
        """Start a task in the background; stdout and stderr are one stream."""
        return RunningCommand(
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
        """The lab's current state as the commands read it."""
        return open_session(self.name)

    def fleet(self) -> Fleet:
        """SSH connections to its machines; a context manager."""
        return self.session().fleet()

    def run(self, machine: str, *argv: str, input: str = "") -> ProcessResult:
        """Run one program on a machine as root, over a new connection."""
        with self.fleet() as fleet:
            return fleet.host(machine).run(*argv, input=input)

    def out(self, machine: str, *argv: str, input: str = "") -> str:
        """The stdout of a program on a machine; the program must succeed."""
        result = self.run(machine, *argv, input=input)
        assert result.ok, (
            f"{machine}: {' '.join(argv)}: {result.status}\n{result.stdout}{result.stderr}"
        )
        return result.stdout

    def sql(self, machine: str, statement: str) -> str:
        """Run SQL as root over a machine's local socket; returns tab-separated rows."""
        return self.out(machine, "mysql", "--batch", "--skip-column-names", input=statement).strip()

    @property
    def url(self) -> str:
        """The site's URL, after checking that the lab's network exists on this host."""
        session = self.session()
        assert session.provider.network_problem(session.lab) == ""
        return session.lab.url

    def get(self, path: str = "/", **options: object) -> requests.Response:
        """One request through the balancer on a new connection."""
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
        """Remove the lab, complete or not."""
        result = self.invoke("lab.destroy", "--yes", check=False, timeout=180)
        assert result.returncode == 0, result.stdout + result.stderr


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> float:
    """Poll a condition; returns the seconds it took, fails at the deadline."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not after {seconds} s: {what}"
        time.sleep(0.1)
    return time.monotonic() - started


@pytest.fixture(scope="session", autouse=True)
def _no_labs_left() -> Iterator[None]:
    """Remove labs that earlier test runs left behind, and this run's labs afterwards."""
    _remove_test_labs()
    yield
    _remove_test_labs()


def _remove_test_labs() -> None:
    for path in sorted((ROOT / ".lab").glob(f"{PREFIX}*")):
        if not (path / incus_record.FILE).exists():  # those machines ended with the tests' Incus
            RunningLab(path.name).destroy()
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def lab() -> Iterator[RunningLab]:
    """The session's lab, up with all checks passed."""
    running = RunningLab(f"{PREFIX}main")
    running.up()
    yield running
    running.destroy()


@pytest.fixture(scope="session")
def secured_lab() -> Iterator[RunningLab]:
    """The session's lab in the topology ``secured``, up with all checks passed.

    A test that breaks it has to repair it.
    """
    running = RunningLab(PREFIX + "secured")
    running.up("--topology", "secured")
    yield running
    running.destroy()


@pytest.fixture(scope="session")
def changing_lab() -> Iterator[RunningLab]:
    """The session's lab that changes its topology; created when a test first needs it."""
    running = RunningLab(f"{PREFIX}topology")
    yield running
    running.destroy()


def with_topology(lab: RunningLab, topology: str) -> RunningLab:
    """The lab in this topology; nothing is done when it has it already."""
    recorded = lab.session().state if lab.name in lab_names() else None
    if recorded is None or recorded.target or recorded.topology != topology:
        lab.up("--topology", topology, "--yes")
    return lab


@pytest.fixture
def scaled(changing_lab: RunningLab) -> RunningLab:
    """The topology in which every component is redundant: eight machines, shared by all tests."""
    return with_topology(changing_lab, "scaled")


@pytest.fixture
def repaired(lab: RunningLab) -> Iterator[RunningLab]:
    """The session's lab for a test that breaks it: lab.up repairs what is left afterwards."""
    yield lab
    lab.up()


@pytest.fixture
def other_lab() -> Iterator[Callable[[str], RunningLab]]:
    """Creates labs for one test; they are removed after it."""
    created: list[RunningLab] = []

    def make(name: str, **options: str) -> RunningLab:
        created.append(RunningLab(PREFIX + name, options))
        return created[-1]

    yield make
    for lab in created:
        lab.destroy()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Retry a failed live test once, reported as `RERUN`, and mark tests of other topologies.

    Machines that share a host stall for seconds now and then; a real fault fails twice.
    """
    for item in items:
        if LIVE in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=1))
            if DIAGNOSIS in item.path.parents:
                item.add_marker(pytest.mark.diagnosis)
            elif DRILLS in item.path.parents:
                item.add_marker(pytest.mark.drills)
            elif INCUS in item.path.parents:
                item.add_marker(pytest.mark.incus)
            elif item.path.name in CLASSROOM:
                item.add_marker(pytest.mark.classroom)
            elif topology_group(item.path):
                item.add_marker(pytest.mark.topologies)
    items.sort(key=order)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the failures of tests that were retried: the retry may hide what went wrong first."""
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.write_sep("-", f"first failure of {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)
        for title, text in report.sections:
            terminalreporter.write_sep("-", title)
            terminalreporter.write_line(text)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduler:
    """Distribute tests over workers by scope."""
    return Scheduler(config, log)
