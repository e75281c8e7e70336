"""What a drill does on a machine, run in this process's own shell: faults, traces, typed lines."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from provision.core.errors import HostError, LabError
from provision.drills import inject, lint, shortcuts, terminal, traces
from provision.drills.catalogue import FOLDER
from provision.drills.drill import CONTROLLER, Exercise, TypedLines
from provision.drills.render import LabValues, render
from provision.drills.shortcuts import Baseline
from provision.drills.source import load
from provision.services.haproxy import runtime
from provision.services.haproxy.statistics import ServerStatistics

LONG_AGO = 1_600_000_000


def shell(script: str, *arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
    argv = ["sh", "-c", script, "sh", *arguments]
    return subprocess.run(argv, input=input, capture_output=True, text=True, check=False)


def exercise() -> Exercise:
    lab = lint.sample_lab("distributed")
    return render(load(FOLDER / "web" / "site-link-removed.md"), LabValues(lab, "web-01"), "1")


# --- causing a fault ------------------------------------------------------------------------------


def test_the_times_of_changed_files_are_set_back(tmp_path: Path) -> None:
    for name in ("kept", "changed", "removed"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (LONG_AGO - 50, LONG_AGO - 50))
    time.sleep(0.02)
    script = inject.restoring_times(inject.RUN, str(tmp_path))
    fault = f"cd {tmp_path}\necho x >>changed\nrm removed\nln -s kept link\n"
    assert shell(script, str(LONG_AGO), input=fault).returncode == 0
    times = {path.name: path.lstat().st_mtime for path in [tmp_path, *tmp_path.iterdir()]}
    assert times.pop("kept") == LONG_AGO - 50
    assert times == {tmp_path.name: LONG_AGO, "changed": LONG_AGO, "link": LONG_AGO}


@pytest.mark.parametrize(
    ("fault", "status"),
    [("exit 3", 3), ("false\ntrue", 1), ("echo $nothing", 2), ("cat; true", 0), ("true", 0)],
)
def test_a_failed_command_of_a_script_ends_it(tmp_path: Path, fault: str, status: int) -> None:
    script = inject.restoring_times(inject.RUN, str(tmp_path))
    assert shell(script, "1", input=f"{fault}\n").returncode == status


def test_a_file_is_written_with_mode_and_time(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    owner = f"{os.getuid()}:{os.getgid()}"
    script = inject.restoring_times(inject.WRITE, str(tmp_path))
    assert shell(script, str(LONG_AGO), str(path), "0640", owner, input="a\nb").returncode == 0
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("a\nb", 0o640)
    assert path.stat().st_mtime == LONG_AGO


# --- traces ---------------------------------------------------------------------------------------


def test_traces_are_found(tmp_path: Path) -> None:
    searched, private = tmp_path / "searched", tmp_path / "private"
    searched.mkdir()
    private.mkdir()
    script = traces.search(str(searched), str(private))
    texts = "\n".join(traces.patterns(exercise()))
    moment = f"{time.time() - 1:.0f}"
    (searched / "harmless").write_text("systemctl status nginx\n")
    assert shell(script, moment, input=texts).stdout == ""
    (searched / "history").write_text("rm /etc/nginx/sites-enabled/www\n")
    (searched / "note").write_text("drill site-link-removed\n")
    (private / "break.sh").write_text("x")
    found = set(shell(script, moment, input=texts).stdout.split())
    assert found == {f"{searched}/history", f"{searched}/note", f"{private}/break.sh"}


def test_the_content_of_a_written_file_is_no_command() -> None:
    script = "cat >/etc/x <<'END'\nsome long content\nEND\nsystemctl restart x\n"
    assert traces.commands_of(script) == ["cat >/etc/x <<'END'", "systemctl restart x"]


# --- typing ---------------------------------------------------------------------------------------


@dataclass
class LocalChannel:
    """A channel like Paramiko's, to a shell of this host on a real pseudo-terminal."""

    master: int = -1
    process: subprocess.Popen[bytes] | None = None
    timeout: float = 5.0

    def get_pty(self, **_: Any) -> None:
        self.master, self.slave = pty.openpty()

    def invoke_shell(self) -> None:
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            env={"PATH": os.environ["PATH"], "HISTFILE": "/dev/null", "TERM": "xterm"},
        )
        os.close(self.slave)

    def settimeout(self, seconds: float) -> None:
        self.timeout = seconds

    def sendall(self, data: bytes) -> None:
        os.write(self.master, data)

    def recv(self, size: int) -> bytes:
        import select

        ready, _, _ = select.select([self.master], [], [], self.timeout)
        if not ready:
            raise TimeoutError
        with contextlib.suppress(OSError):
            return os.read(self.master, size)
        return b""

    def close(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@dataclass
class LocalHost:
    """A machine whose terminals are on this host; its other commands have fixed outputs."""

    name: str = "web-01"
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def connection(self) -> Any:
        return self

    @property
    def transport(self) -> Any:
        return self

    def open_session(self, timeout: float) -> LocalChannel:
        return LocalChannel()

    def run(self, *argv: str, **_: Any) -> Any:
        return subprocess.CompletedProcess(argv, 0, self.outputs[argv[-1]], "")


@dataclass
class LocalFleet:
    """Machines by name."""

    hosts: dict[str, Any]

    def host(self, name: str) -> Any:
        return self.hosts[name]


@pytest.fixture
def fleet() -> Any:
    return LocalFleet({"web-01": LocalHost()})


def typed(fleet: Any, *lines: str) -> list[str]:
    shown: list[str] = []
    steps = [TypedLines("web-01", lines)]
    lab = lint.sample_lab("distributed")
    terminal.type_lines(fleet, lab, steps, lambda name, row: shown.append(row))
    return shown


def test_lines_are_typed_one_after_the_other(fleet: Any, tmp_path: Path) -> None:
    shown = typed(
        fleet,
        "sleep 0.2; echo first",
        f"cat >{tmp_path}/file <<'END'",
        "a $HOME",
        "END",
        "false",
        "tty",
    )
    assert (tmp_path / "file").read_text() == "a $HOME\n"
    assert shown[:2] == ["$ sleep 0.2; echo first", "first"]
    assert shown[-1].startswith("/dev/"), shown


def test_a_line_that_waits_for_input_is_an_error(
    fleet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "LINE_SECONDS", 0.5)
    with pytest.raises(HostError, match="no prompt after a typed line"):
        typed(fleet, "read -p 'sure? ' answer")


def test_only_invoke_is_typed_on_the_controller(fleet: Any) -> None:
    steps = [TypedLines(CONTROLLER, ("rm -r x",))]
    with pytest.raises(LabError, match="only invoke commands"):
        terminal.type_lines(fleet, lint.sample_lab("distributed"), steps, lambda *_: None)


# --- shortcuts ------------------------------------------------------------------------------------


def server(name: str, status: str = "UP") -> ServerStatistics:
    return ServerStatistics(name, status, "L7OK", 1, 0, 0, 0, 0, 0, False, False)


@dataclass
class LocalJudge:
    """Enough of a judge for shortcuts."""

    fleet: Any
    context: Any = None

    def judge(self, probes: Any) -> tuple[Any, ...]:
        return ()


@pytest.mark.parametrize(
    ("packages", "drops", "servers", "commands", "expected"),
    [
        ("7", "2", [server("web-01"), server("web-02")], [], []),
        ("8", "2", [server("web-01"), server("web-02")], [], ["installed or removed on web-01"]),
        ("7", "1", [server("web-01"), server("web-02")], [], ["firewall of web-01 is off"]),
        ("7", "2", [server("web-01")], [], ["does not use web-02"]),
        ("7", "2", [server("web-01"), server("web-02", "MAINT")], [], ["does not use web-02"]),
        ("7", "2", [server("web-01", "no check"), server("web-02")], [], ["no health check of"]),
        ("7", "2", [server("web-01"), server("web-02")], ["lab.up", "check"], ["lab.up restored"]),
        ("7", "2", [server("web-01"), server("web-02")], ["lab.check"], []),
    ],
)
def test_shortcuts_are_found(
    monkeypatch: pytest.MonkeyPatch,
    packages: str,
    drops: str,
    servers: list[ServerStatistics],
    commands: list[str],
    expected: list[str],
) -> None:
    import dataclasses

    monkeypatch.setattr(runtime, "statistics", lambda *_: {"lb-01": tuple(servers)})
    host = LocalHost(outputs={shortcuts.PACKAGES: packages, shortcuts.FIREWALL: drops})
    judge: Any = LocalJudge(LocalFleet({"web-01": host}))
    every = dataclasses.replace(exercise(), shortcuts=tuple(shortcuts.TEXTS), guarded=())
    baseline = Baseline({"web-01": 7}, {"web-01": 2}, ("web-01", "web-02"))
    found = shortcuts.used(judge, every, baseline, commands)
    assert len(found) == len(expected)
    assert all(part in text for part, text in zip(expected, found, strict=True)), found
