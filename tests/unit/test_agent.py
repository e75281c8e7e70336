"""The machine's side, run right here: its functions in a folder, and its protocol over pipes."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import socket
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.core.endpoint import Endpoint
from provision.core.errors import HostError
from provision.engine import host as host_module
from provision.engine.agent import files, http, services, units
from provision.engine.agent import main as agent
from provision.engine.agent.core import ACTIONS, Failed, run
from provision.engine.host import Host, RemoteError

ME = "root" if os.geteuid() == 0 else ""
needs_root = pytest.mark.skipif(not ME, reason="gives files to owners")


def silent(_text: str) -> None:
    """Nobody listens."""


# --- files ---------------------------------------------------------------------------------------


def write(path: Path, text: str, mode: str = "0640") -> dict[str, Any]:
    content = base64.b64encode(text.encode()).decode()
    return {
        "do": "write",
        "path": str(path),
        "content": content,
        "owner": "root",
        "group": "root",
        "mode": mode,
    }


@needs_root
def test_a_file_is_written_and_put_back(tmp_path: Path) -> None:
    journal = files.Journal()
    old, new = tmp_path / "old", tmp_path / "deep" / "new"
    old.write_text("before\n")
    old.chmod(0o604)
    files.write(write(old, "after\n"), journal, silent)
    files.write(write(old, "after all\n"), journal, silent)
    files.write(write(new, "made\n"), journal, silent)
    assert (old.read_text(), new.read_text()) == ("after all\n", "made\n")
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert journal.put_back() == sorted([str(old), str(new)])
    assert old.read_text() == "before\n"
    assert stat.S_IMODE(old.stat().st_mode) == 0o604
    assert not new.exists()
    assert {p.name for p in tmp_path.iterdir()} == {"old", "deep"}


@needs_root
def test_links_are_made_replaced_and_put_back(tmp_path: Path) -> None:
    journal = files.Journal()
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to("one")
    file.write_text("text")
    files.link({"path": str(link), "target": "two"}, journal, silent)
    files.link({"path": str(file), "target": "two"}, journal, silent)
    assert (str(link.readlink()), str(file.readlink())) == ("two", "two")
    files.remove({"path": str(link)}, journal, silent)
    assert not link.is_symlink()
    files.remove({"path": str(tmp_path / "none")}, journal, silent)
    journal.put_back()
    assert str(link.readlink()) == "one"
    assert file.read_text() == "text"


def test_what_is_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    seen = files.look(str(tmp_path / "file"), False)
    assert (seen["type"], seen["content"]) == ("file", "text")
    assert "content" not in files.look(str(tmp_path / "file"), True)
    assert files.look(str(tmp_path / "file" / "below"), False) == {"type": "absent"}
    (tmp_path / "large").write_bytes(b"x" * (files.READ_LIMIT + 1))
    assert "content" not in files.look(str(tmp_path / "large"), False)
    assert files.look(str(tmp_path), False)["type"] == "directory"


@needs_root
@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="Python before 3.11.4")
def test_a_tree_takes_the_place_of_another(tmp_path: Path) -> None:
    place = tmp_path / "release"
    place.mkdir()
    (place / "old").write_text("goes")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo("deep/new")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"text"))
    packed = base64.b64encode(buffer.getvalue()).decode()
    request = {"path": str(place), "tar": packed, "owner": "root", "group": "root"}
    files.tree(request, files.Journal(), silent)
    assert (place / "deep" / "new").read_text() == "text"
    assert not (place / "old").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["release"]


# --- a unit as one transaction -------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for stamps and the lock, and no systemd."""
    monkeypatch.setattr(files, "LOADED", str(tmp_path / "loaded"))
    monkeypatch.setattr(units, "LOCK", str(tmp_path / "run" / "lock"))
    return tmp_path


def unit(*actions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "actions": list(actions),
        "validate": None,
        "service": "",
        "activate": "",
        "due": False,
        "wait": None,
        "stamp": None,
        **more,
    }


class Systemd:
    """Stands for systemctl: one service, whether it runs, and what was ordered."""

    def __init__(self, running: bool, refuses: str = "") -> None:
        self.running = running
        self.refuses = refuses
        self.orders: list[str] = []

    def active(self, _name: str) -> bool:
        return self.running

    def activate(self, name: str, how: str, _say: Any) -> None:
        self.orders.append(how)
        if self.refuses and self.orders == [self.refuses]:
            raise Failed(f"systemctl {how} {name} failed: it is failed", "its last words")
        self.running = True


def with_systemd(monkeypatch: pytest.MonkeyPatch, systemd: Systemd) -> Systemd:
    monkeypatch.setattr(units, "_active", systemd.active)
    monkeypatch.setattr(units, "activate", systemd.activate)
    return systemd


SERVICE = {"service": "x.service", "activate": "reload", "due": True}
STAMP = {"unit": "x", "fingerprint": "new"}


@needs_root
def test_a_unit_is_stamped_last(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd = with_systemd(monkeypatch, Systemd(running=True))
    file = machine / "x.conf"
    request = unit(write(file, "new"), validate=["true"], stamp=STAMP, **SERVICE)
    assert units.apply(request, silent) == {"ok": True, "activated": "reload"}
    assert systemd.orders == ["reload"]
    assert (machine / "loaded" / "x").read_text() == "new\n"


@needs_root
def test_a_refused_configuration_is_never_loaded(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd = with_systemd(monkeypatch, Systemd(running=True))
    file = machine / "x.conf"
    file.write_text("old")
    refusing = ["sh", "-c", "echo line 7 is wrong >&2; exit 3"]
    answer = units.apply(
        unit(write(file, "bad"), validate=refusing, stamp=STAMP, **SERVICE), silent
    )
    assert not answer["ok"]
    assert answer["step"] == "validate"
    assert "refuses the new configuration" in answer["error"]
    assert answer["output"] == "line 7 is wrong"
    assert answer["restored"] == [str(file)]
    assert answer["after"] == ""
    assert file.read_text() == "old"
    assert systemd.orders == []
    assert not (machine / "loaded" / "x").exists()


@needs_root
def test_a_reload_that_fails_is_followed_by_one_of_the_old_files(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd = with_systemd(monkeypatch, Systemd(running=True, refuses="reload"))
    file = machine / "x.conf"
    file.write_text("old")
    answer = units.apply(unit(write(file, "bad"), stamp=STAMP, **SERVICE), silent)
    assert (answer["step"], answer["output"]) == ("activate", "its last words")
    assert answer["after"] == "the old configuration is loaded again"
    assert systemd.orders == ["reload", "reload"]
    assert file.read_text() == "old"
    assert not (machine / "loaded" / "x").exists()


@needs_root
def test_a_service_that_does_not_answer_is_a_failed_probe(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_systemd(monkeypatch, Systemd(running=True))
    file = machine / "x.conf"
    file.write_text("old")
    wait = {"name": "its socket", "socket": str(machine / "none"), "deadline": 0.1}
    answer = units.apply(unit(write(file, "bad"), wait=wait, stamp=STAMP, **SERVICE), silent)
    assert answer["step"] == "probe"
    assert answer["error"] == "its socket did not answer in 0.1 s"
    assert file.read_text() == "old"


@contextlib.contextmanager
def answering(path: Path, *answers: str) -> Iterator[list[str]]:
    """A runtime socket that says these one after the other, the last one for ever."""
    asked: list[str] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def work() -> None:
            while True:
                connection, _ = server.accept()
                with connection:
                    line = connection.recv(100).decode()
                    if not line.strip():
                        return
                    asked.append(line)
                    text = answers[min(len(asked), len(answers)) - 1]
                    connection.sendall(text.encode())

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield asked
        finally:
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
                last.sendall(b"\n")
            thread.join()


def test_a_wait_is_for_the_process_that_loaded_what_was_written(tmp_path: Path) -> None:
    """During HAProxy's reload the old process still answers, then both do."""
    wait = {"name": "x", "socket": str(tmp_path / "s"), "says": "description: new", "deadline": 5}
    old, new = "Name: HAProxy\n", "Name: HAProxy\ndescription: new\n"
    with answering(tmp_path / "s", old, new, old, new) as asked:
        http.wait_for(wait, silent)
        assert len(asked) == 3 + http.ANSWERS
        del wait["says"]
        http.wait_for(wait, silent)
        assert len(asked) == 4 + http.ANSWERS


@needs_root
@pytest.mark.parametrize("activate", ["reload", ""])
def test_only_what_was_loaded_now_must_show_that(
    machine: Path, monkeypatch: pytest.MonkeyPatch, activate: str
) -> None:
    with_systemd(monkeypatch, Systemd(running=True))
    place = machine / "s"
    wait = {"name": "x", "socket": str(place), "says": "description: new", "deadline": 0.1}
    request = unit(service="x.service", activate=activate, due=bool(activate), wait=wait)
    with answering(place, "description: old"):
        answer = units.apply(request, silent)
    assert answer["ok"] is not bool(activate)


@needs_root
@pytest.mark.parametrize("kind", ["directory", "unknown-owner", "bug"])
def test_what_nobody_foresaw_puts_the_files_back_too(machine: Path, kind: str) -> None:
    first, second = machine / "first", machine / "second"
    first.write_text("old")
    spoiled = write(second, "new")
    if kind == "directory":
        second.mkdir()
    elif kind == "unknown-owner":
        spoiled["owner"] = "nobody-at-all"
    else:
        del spoiled["mode"]
    answer = units.apply(unit(write(first, "new"), spoiled), silent)
    assert not answer["ok"]
    assert answer["step"] == "change"
    expected = {"directory": "Is a directory", "unknown-owner": "no such user", "bug": "KeyError"}
    assert expected[kind] in answer["error"]
    assert first.read_text() == "old"


def test_a_unit_waits_for_one_that_an_earlier_run_began(machine: Path) -> None:
    told: list[str] = []
    with units.alone(silent), pytest.raises(Failed, match="an earlier run still changes"):  # noqa: SIM117
        with units.alone(told.append, patience=0.1):
            pass
    assert told == ["waiting for what an earlier run began"]
    with units.alone(silent, patience=0.1):
        pass


def test_a_stopped_service_is_started(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd = with_systemd(monkeypatch, Systemd(running=False))
    answer = units.apply(unit(service="x.service", activate="reload"), silent)
    assert answer == {"ok": True, "activated": "start"}
    assert systemd.orders == ["start"]


def test_programs_that_hang_or_are_not_there() -> None:
    assert run(["sleep", "5"], timeout=0.1).status == 124
    assert run(["no-such-program-at-all"]).status == 127
    with pytest.raises(Failed) as caught:
        services.command({"argv": ["sh", "-c", "echo why >&2; exit 9"]}, None, silent)  # type: ignore[arg-type]
    assert str(caught.value) == "sh -c echo why >&2; exit 9 ended with 9"
    assert caught.value.output == "why"


# --- the protocol --------------------------------------------------------------------------------


def serve(*requests: Any) -> list[dict[str, Any]]:
    """What the agent's loop answers to these lines."""
    lines = b"".join(json.dumps(request).encode() + b"\n" for request in requests)
    answers = io.BytesIO()
    agent.serve(io.BytesIO(lines), answers)
    return [json.loads(line) for line in answers.getvalue().splitlines()]


def test_the_loop_survives_whatever_a_request_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(args: dict[str, Any], say: Any) -> str:
        say("half way")
        if args["fail"]:
            raise Failed("no", "because")
        return "done"

    monkeypatch.setitem(agent.OPERATIONS, "test", told)
    ready, *rest = serve(
        {"id": 1, "op": "test", "args": {"fail": False}},
        {"id": 2, "op": "test", "args": {"fail": True}},
        {"id": 3, "op": "nonsense", "args": {}},
        {"id": 4, "op": "run", "args": {"argv": ["cat"], "input": "ä"}},
    )
    assert ready == {"ready": os.getpid()}
    assert rest == [
        {"id": 1, "say": "half way"},
        {"id": 1, "value": "done"},
        {"id": 2, "say": "half way"},
        {"id": 2, "error": "no", "output": "because"},
        {"id": 3, "error": "KeyError: 'nonsense'", "output": ""},
        {"id": 4, "value": {"status": 0, "out": "ä", "err": ""}},
    ]


def test_every_action_and_probe_has_a_name() -> None:
    assert {"write", "link", "remove", "directory", "tree", "service", "user"} <= set(ACTIONS)
    answered = serve({"id": 1, "op": "gather", "args": {"probes": {"path": [{"path": "/none"}]}}})
    assert answered[1]["value"] == {"path": [{"type": "absent"}]}


def test_a_controller_that_has_gone_stops_no_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken pipe in the middle: the unit goes on to its end."""
    went_on: list[bool] = []

    def told(_args: dict[str, Any], say: Any) -> None:
        say("nobody hears this")
        went_on.append(True)

    class Broken(io.BytesIO):
        def write(self, data: Any) -> int:
            if b"ready" not in data:
                raise BrokenPipeError
            return super().write(data)

    monkeypatch.setitem(agent.OPERATIONS, "test", told)
    line = json.dumps({"id": 1, "op": "test", "args": {}}).encode() + b"\n"
    with pytest.raises(BrokenPipeError):
        agent.serve(io.BytesIO(line), Broken())
    assert went_on == [True]


# --- the controller's side, over pipes instead of SSH --------------------------------------------


class Channel:
    """What Paramiko's channel is to a Host: here a Python of this computer."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )

    def exec_command(self, _command: str) -> None:
        pass

    def settimeout(self, _seconds: float) -> None:
        pass

    def sendall(self, data: bytes) -> None:
        assert self.process.stdin is not None
        while data:
            data = data[self.process.stdin.write(data) :]

    def recv(self, size: int) -> bytes:
        assert self.process.stdout is not None
        return os.read(self.process.stdout.fileno(), size)

    def recv_stderr(self, size: int) -> bytes:
        assert self.process.stderr is not None
        return os.read(self.process.stderr.fileno(), size)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


class Connection:
    """Fabric's, as far as a Host uses it."""

    def __init__(self, channel: Channel) -> None:
        self.transport = self
        self.gateway = None
        self._channel = channel

    def open_session(self, timeout: float) -> Channel:
        return self._channel

    def close(self) -> None:
        self._channel.close()


def local(*command: str) -> Host:
    """A Host whose machine is a process of ours."""
    endpoint = Endpoint("127.0.0.1", 22, "root", Path("/none"), "ssh-ed25519 none")
    host = Host("web-01", endpoint)
    argv = list(command) or [sys.executable, "-I", "-c", host_module.BOOT]
    host._connection = Connection(Channel(argv))
    return host


@pytest.fixture
def machine_here() -> Iterator[Host]:
    with local() as host:
        yield host


def test_the_modules_travel_and_answer(machine_here: Host) -> None:
    assert machine_here.round_trips == 0
    done = machine_here.run("sh", "-c", 'printf "%s" "$1"; cat', "sh", "a 'b'", input="c")
    assert (done.ok, done.out) == (True, "a 'b'c")
    answers = machine_here.gather({"path": [{"path": "/none", "secret": False}]})
    assert answers == {"path": [{"type": "absent"}]}
    assert machine_here.round_trips == 2
    assert machine_here.run("false").status == 1


def test_an_answer_that_nobody_waited_for_is_not_taken_for_another(
    machine_here: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_timeout: float) -> dict[str, Any]:
        raise KeyboardInterrupt

    assert machine_here.run("true").ok
    with monkeypatch.context() as patched:
        patched.setattr(machine_here, "_read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            machine_here.run("echo", "the first")
    assert machine_here.run("echo", "the second").out == "the second\n"


def test_what_a_program_prints_does_not_disturb_the_protocol(machine_here: Host) -> None:
    assert machine_here.run("sh", "-c", "echo '{\"id\": 2}'; echo noise >&2").out == '{"id": 2}\n'
    assert machine_here.run("echo", "still here").out == "still here\n"


def test_an_answer_that_is_an_error_names_the_machine(machine_here: Host) -> None:
    with pytest.raises(RemoteError, match=r"^web-01: KeyError: 'nonsense'"):
        machine_here.call("nonsense", {})
    assert machine_here.run("true").ok


@pytest.mark.parametrize(
    ("script", "what", "advice"),
    [
        ("exit", "web-01: the machine stopped answering", "invoke lab.status"),
        ("echo sudo: a password is required >&2", "sudo asks for a password", "use sudo -n"),
        (
            "echo bash: line 1: python3: command not found >&2",
            "there is no python3",
            "apt-get install python3",
        ),
        ("echo Welcome; exec cat >/dev/null", "it sent no JSON", "invoke lab.status"),
        ("echo '{}'; exec cat >/dev/null", "the agent said {}", "invoke lab.status"),
    ],
)
def test_a_machine_that_does_not_speak(script: str, what: str, advice: str) -> None:
    host = local("sh", "-c", script)
    with pytest.raises(HostError) as caught:
        host.run("true")
    assert what in str(caught.value)
    assert advice in caught.value.advice
