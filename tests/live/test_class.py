"""A class of two labs: brought up, resumed, each with its own key and limits, reset, removed."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.core import classroom
from provision.core.classroom import Team
from provision.core.lab import ROOT
from provision.providers.lxc.container import CGROUPS
from provision.providers.lxc.limits import is_unified
from provision.providers.lxc.paths import LabPaths
from tests import json_schema
from tests.live.conftest import INVOKE, PREFIX, RunningLab, assert_no_traceback, pool, wait_until

pytestmark = [pytest.mark.live, pytest.mark.alone]

CLASS = """\
title: Test
topology: simple
prefix: {prefix}c-
network: {network}
limits: {{memory: 900, processes: 500, disk: 2048, cpu: 50}}
teams: [red, blue]
"""


class RunningClass:
    """A class, used through its commands."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def invoke(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a task, which must exit with this status."""
        result = subprocess.run(
            [INVOKE, *words],
            cwd=ROOT,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=480,
            check=False,
        )
        output = result.stdout + result.stderr
        assert_no_traceback(output)
        assert result.returncode == status, f"{' '.join(words)}: {result.returncode}\n{output}"
        return result

    def json(self, *words: str, status: int = 0) -> dict[str, Any]:
        """The values of a task with ``--json``."""
        words_before = words[: words.index("--")] if "--" in words else words
        rest = words[len(words_before) :]
        document = json_schema.document(
            self.invoke(*words_before, "--json", *rest, status=status).stdout
        )
        data: dict[str, Any] = document["data"]
        return data

    def states(self) -> dict[str, str]:
        """The state of each team's lab."""
        return {lab["team"]: lab["state"] for lab in self.json("class.status")["class_labs"]}

    def team(self, name: str) -> Team:
        return classroom.require().team(name)

    def lab(self, name: str) -> RunningLab:
        return RunningLab(self.team(name).lab)


@pytest.fixture(scope="module")
def two_teams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningClass]:
    """A class of two labs of the topology ``simple``, with limits."""
    assert classroom.load() is None, "this checkout has a class: invoke class.destroy --yes"
    file = tmp_path_factory.mktemp("class") / "class.yml"
    file.write_text(CLASS.format(prefix=PREFIX, network=pool() or "10.77.0.0/16"))
    running = RunningClass(file)
    try:
        running.invoke("class.up", str(file))
        yield running
    finally:
        running.invoke("class.destroy", "--yes")
    assert not classroom.folder().exists()


def test_a_second_run_brings_up_only_what_is_missing(two_teams: RunningClass) -> None:
    assert two_teams.states() == {"red": "up", "blue": "up"}
    networks = {classroom.require().team(name).network for name in ("red", "blue")}
    assert len(networks) == 2
    started = time.monotonic()
    assert "0 labs to bring up" in two_teams.invoke("class.up").stdout
    assert time.monotonic() - started < 20
    two_teams.lab("blue").invoke("lab.kill", "web-01")
    assert two_teams.states() == {"red": "up", "blue": "halted"}
    assert "1 labs to bring up" in two_teams.invoke("class.up", str(two_teams.file)).stdout
    assert two_teams.states() == {"red": "up", "blue": "up"}


def test_a_task_in_every_lab(two_teams: RunningClass) -> None:
    runs = two_teams.json("class.each", "--", "lab.status")
    assert [(run["team"], run["exit_code"]) for run in runs["task_runs"]] == [
        ("red", 0),
        ("blue", 0),
    ]
    assert all("web-01" in run["task_output"] for run in runs["task_runs"])
    two_teams.lab("red").invoke("lab.ssh", "web-01", "--", "sudo", "systemctl", "stop", "nginx")
    try:
        result = two_teams.invoke("class.each", "--", "lab.check", status=1)
        assert "== red" in result.stdout and "== blue" in result.stdout  # noqa: PT018
        runs = two_teams.json("class.each", "--team", "blue", "--", "lab.check")
        assert [run["exit_code"] for run in runs["task_runs"]] == [0]
    finally:
        two_teams.lab("red").up()


def ssh(team: Team, key: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Log in to a team's machine with a key, as the access sheet says."""
    lab = RunningLab(team.lab)
    address = lab.session().lab.machine("web-01").address
    options = ["BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=no"]
    options += ["UserKnownHostsFile=/dev/null", "ConnectTimeout=10"]
    words = [word for option in options for word in ("-o", option)]
    return subprocess.run(
        ["ssh", "-F", "/dev/null", *words, "-i", str(key), f"lab@{address}", command],
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_the_key_of_a_team_opens_its_own_machines_only(two_teams: RunningClass) -> None:
    red, blue = two_teams.team("red"), two_teams.team("blue")
    assert ssh(red, red.key(), "sudo id -un").stdout == "root\n"
    assert ssh(blue, blue.key(), "sudo id -un").stdout == "root\n"
    for team, key in ((blue, red.key()), (red, blue.key())):
        refused = ssh(team, key, "true")
        assert refused.returncode == 255
        assert "Permission denied (publickey)" in refused.stderr
    for lab in (two_teams.lab("red"), two_teams.lab("blue")):
        assert lab.invoke("lab.plan", "--detailed-exitcode").returncode == 0, "no drift"


def test_access_sheets(two_teams: RunningClass) -> None:
    two_teams.invoke("class.sheet", "--url", "https://10.1.2.3:8443/")
    path = classroom.folder() / "sheets.html"
    text = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for name in ("red", "blue"):
        team = two_teams.team(name)
        for part in (team.code, team.key().read_text().strip(), f"{team.lab}.key", "SHA256:"):
            assert part in text
    only = two_teams.json("class.sheet", "--team", "red", "--write", str(path))
    assert only["teams"] == ["red"]
    assert two_teams.team("blue").code not in path.read_text()


# --- limits --------------------------------------------------------------------------------------

FORK_BOMB = "f() { f | f & }; f; sleep 20"
MEMORY_HOG = "python3 -c 'x = []\nwhile True: x.append(bytearray(8 << 20))'"
DISK_FILLER = (
    "dd if=/dev/zero of=/var/tmp/filler bs=1M count=20000 2>&1; df -m / | tail -1; sleep 15; "
    "rm -f /var/tmp/filler"
)
CPU_HOG = "for i in 1 2 3 4 5 6; do timeout 25 sh -c 'while :; do :; done' & done; wait"


def denied(lab: RunningLab) -> dict[str, int]:
    """How often the kernel has enforced limits of the lab, by the name of a limit."""
    group = LabPaths.of(lab.session().lab).lab_cgroup
    if is_unified():
        folder = CGROUPS / group
        files = {"processes": folder / "pids.events", "memory": folder / "memory.events"}
        keys = {"processes": "max", "memory": "oom_kill"}
        return {name: _event(file, keys[name]) for name, file in files.items()}
    pids = CGROUPS / "pids" / group / "pids.events"
    memory = CGROUPS / "memory" / group / "memory.failcnt"
    # The events of version 1 are those of the group in which a fork failed.
    below = [pids, *pids.parent.rglob("pids.events")]
    return {
        "processes": sum(_event(file, "max") for file in below),
        "memory": int(memory.read_text()),
    }


def _event(file: Path, key: str) -> int:
    rows = (line.split() for line in file.read_text().splitlines())
    return sum(int(value) for name, value in rows if name == key)


@pytest.mark.parametrize(
    ("name", "script"),
    [("fork", FORK_BOMB), ("memory", MEMORY_HOG), ("disk", DISK_FILLER), ("cpu", CPU_HOG)],
)
def test_one_team_cannot_starve_another(two_teams: RunningClass, name: str, script: str) -> None:
    """While red does its worst, all checks of blue pass."""
    red, blue = two_teams.lab("red"), two_teams.lab("blue")
    before = denied(red)
    # Not over SSH: sshd may not survive it.
    attack = subprocess.Popen(
        red.command("lab.rescue", "web-01", "--", "timeout", "40", "sh", "-c", script),
        cwd=ROOT,
        env={**os.environ, **red.options},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        time.sleep(3.0)
        started = time.monotonic()
        blue.invoke("lab.check")
        seconds = time.monotonic() - started
        available = _available_mib()
        enforced = {limit: count - before[limit] for limit, count in denied(red).items()}
        output = attack.communicate(timeout=120)[0]
    finally:
        attack.kill()
        red.invoke("lab.kill", "web-01")
        red.invoke("lab.start", "web-01")
        red.run("web-01", "rm", "-f", "/var/tmp/filler")
    print(f"{name}: checks of the other lab took {seconds:.1f} s; enforced: {enforced}")
    assert seconds < 60
    assert available > 1024
    if name == "fork":
        assert enforced["processes"] > 0, output[-2000:]
    elif name == "memory":
        assert enforced["memory"] > 0, output[-2000:]
    elif name == "disk":
        assert "No space left on device" in output
    red.up()


def _available_mib() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    raise AssertionError


def test_reset_returns_every_lab_to_its_beginning(two_teams: RunningClass) -> None:
    for name in ("red", "blue"):
        two_teams.lab(name).out("web-01", "touch", "/root/changed")
    two_teams.invoke("class.reset", status=2)
    two_teams.invoke("class.reset", "--yes")
    wait_until(lambda: two_teams.states() == {"red": "up", "blue": "up"}, "labs to be up")
    for name in ("red", "blue"):
        assert not two_teams.lab(name).run("web-01", "test", "-e", "/root/changed").ok
    red = two_teams.team("red")
    assert ssh(red, red.key(), "true").returncode == 0
