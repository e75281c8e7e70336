"""The agent's functions, called in this process: files, units as transactions, readiness."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import socket
import stat
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.engine.agent import commands, files, http, overwritten, trees, units
from provision.engine.agent.atomic import write_atomically
from provision.engine.agent.change_time import change_time
from provision.engine.agent.process import AgentError, run
from provision.engine.agent.protocol import (
    Action,
    HttpRequest,
    Readiness,
    Stamp,
    UnitRequest,
    UnitResponse,
)
from provision.engine.agent.unit_files import collect_last_change, last_change_probe
from provision.engine.agent.waiting import AgentTimeoutError

ME = "root" if os.geteuid() == 0 else ""
needs_root = pytest.mark.skipif(not ME, reason="gives files to owners")


def silent(_text: str) -> None:
    """Discard progress."""


# --- files ---------------------------------------------------------------------------------------


def write(path: Path, text: str, mode: str = "0640") -> dict[str, Any]:
    """Arguments of the action ``write``."""
    content = base64.b64encode(text.encode()).decode()
    owner = {"owner": "root", "group": "root"}
    return {"path": str(path), "content": content, "mode": mode, **owner}


@needs_root
def test_a_file_is_written_and_rolled_back(tmp_path: Path) -> None:
    journal = files.Journal()
    old, new = tmp_path / "old", tmp_path / "deep" / "new"
    old.write_text("before\n")
    old.chmod(0o604)
    files.write(write(old, "after\n"), journal, silent)
    files.write(write(old, "after all\n"), journal, silent)
    files.write(write(new, "made\n"), journal, silent)
    assert (old.read_text(), new.read_text()) == ("after all\n", "made\n")
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert journal.roll_back() == tuple(sorted([str(old), str(new)]))
    assert old.read_text() == "before\n"
    assert stat.S_IMODE(old.stat().st_mode) == 0o604
    assert not new.exists()
    assert {p.name for p in tmp_path.iterdir()} == {"old", "deep"}


@needs_root
def test_a_restored_file_has_not_changed_until_it_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_text("before")
    unchanged = change_time(str(path))
    time.sleep(0.02)  # a time stamp of the file system is as coarse as the kernel's clock tick
    for _ in range(2):
        journal = files.Journal()
        files.write(write(path, "refused"), journal, silent)
        assert change_time(str(path)) > unchanged
        journal.roll_back()
        assert path.read_text() == "before"
        assert path.stat().st_ctime > unchanged
        assert change_time(str(path)) == unchanged
    path.write_text("by hand")
    assert change_time(str(path)) > unchanged


@needs_root
def test_a_restored_file_inside_a_tree_has_not_changed_either(tmp_path: Path) -> None:
    tree = tmp_path / "conf.d"
    tree.mkdir()
    for name in ("a", "b"):
        (tree / name).write_text("before")
    probe = last_change_probe("nginx", [str(tree)])
    unchanged = collect_last_change(probe.args)
    time.sleep(0.02)
    journal = files.Journal()
    files.write(write(tree / "a", "refused"), journal, silent)
    files.remove({"path": str(tree / "b")}, journal, silent)
    assert collect_last_change(probe.args).changed > unchanged.changed
    journal.roll_back()
    assert collect_last_change(probe.args).changed == unchanged.changed
    (tree / "b").write_text("by hand")
    assert collect_last_change(probe.args).path == str(tree / "b")


def test_links_are_created_replaced_and_rolled_back(tmp_path: Path) -> None:
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
    journal.roll_back()
    assert str(link.readlink()) == "one"
    assert file.read_text() == "text"


def test_path_facts(tmp_path: Path) -> None:
    def collect(name: str, *, secret: bool = False) -> files.PathFacts:
        return files.collect_path({"path": str(tmp_path / name), "secret": secret})

    (tmp_path / "file").write_text("text")
    facts = collect("file")
    assert (facts.type, facts.content) == ("file", "text")
    secret = collect("file", secret=True)
    assert (secret.content, secret.digest) == ("", facts.digest)
    assert collect("file/below") == files.PathFacts("absent")
    (tmp_path / "large").write_bytes(b"x" * (files.READ_LIMIT + 1))
    assert collect("large").content == ""
    assert collect(".").type == "directory"


@needs_root
@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="Python before 3.11.4")
def test_a_tree_replaces_another(tmp_path: Path) -> None:
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
    trees.tree(request, files.Journal(), silent)
    assert (place / "deep" / "new").read_text() == "text"
    assert not (place / "old").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["release"]


# --- a unit as one transaction -------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for stamps and the lock, and no systemd."""
    monkeypatch.setattr(files, "LOADED", str(tmp_path / "loaded"))
    monkeypatch.setattr(overwritten, "HOME", str(tmp_path / "home"))
    monkeypatch.setattr(overwritten, "FOLDER", str(tmp_path / "home" / "overwritten"))
    monkeypatch.setattr(overwritten, "WRITTEN", str(tmp_path / "home" / "written.json"))
    monkeypatch.setattr(units, "LOCK", str(tmp_path / "run" / "lock"))
    return tmp_path


def unit(*written: dict[str, Any], **more: Any) -> UnitRequest:
    """A unit that writes files."""
    return UnitRequest(tuple(Action("write", args) for args in written), **more)


def apply(request: UnitRequest) -> UnitResponse:
    return units.Transaction(request, silent).apply()


class Systemd:
    """A fake systemctl with one service; keeps the verbs it was called with."""

    def __init__(self, running: bool, fails: str = "") -> None:
        self.running = running
        self.fails = fails
        self.verbs: list[str] = []

    def active(self, _name: str) -> bool:
        return self.running

    def activate(self, name: str, verb: str, _log: Any) -> None:
        self.verbs.append(verb)
        if self.fails and self.verbs == [self.fails]:
            raise AgentError(f"systemctl {verb} {name} failed: it is failed", "its last lines")
        self.running = True


def with_systemd(monkeypatch: pytest.MonkeyPatch, systemd: Systemd) -> Systemd:
    monkeypatch.setattr(units, "is_active", systemd.active)
    monkeypatch.setattr(units, "activate", systemd.activate)
    return systemd


SERVICE: dict[str, Any] = {"service": "x.service", "activate": "reload", "needs_reload": True}
STAMP = Stamp("x", "new")


@needs_root
def test_a_unit_is_stamped_last(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd = with_systemd(monkeypatch, Systemd(running=True))
    file = machine / "x.conf"
    request = unit(write(file, "new"), validate=("true",), stamp=STAMP, **SERVICE)
    assert apply(request) == UnitResponse(True, "reload")
    assert systemd.verbs == ["reload"]
    assert (machine / "loaded" / "x").read_text() == "new\n"


@needs_root
def test_a_rejected_configuration_is_never_loaded(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd = with_systemd(monkeypatch, Systemd(running=True))
    file = machine / "x.conf"
    file.write_text("old")
    invalid = ("sh", "-c", "echo line 7 is wrong >&2; exit 3")
    response = apply(unit(write(file, "bad"), validate=invalid, stamp=STAMP, **SERVICE))
    assert not response.ok
    assert response.step == "validate"
    assert "rejects the new configuration" in response.error
    assert response.output == "line 7 is wrong"
    assert response.restored == (str(file),)
    assert response.after == ""
    assert file.read_text() == "old"
    assert systemd.verbs == []
    assert not (machine / "loaded" / "x").exists()


@needs_root
def test_a_failed_reload_is_followed_by_one_with_the_old_files(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd = with_systemd(monkeypatch, Systemd(running=True, fails="reload"))
    file = machine / "x.conf"
    file.write_text("old")
    response = apply(unit(write(file, "bad"), stamp=STAMP, **SERVICE))
    assert (response.step, response.output) == ("activate", "its last lines")
    assert response.after == "the old configuration is loaded again"
    assert systemd.verbs == ["reload", "reload"]
    assert file.read_text() == "old"
    assert not (machine / "loaded" / "x").exists()


@needs_root
def test_a_service_that_does_not_become_ready_fails_the_probe(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_systemd(monkeypatch, Systemd(running=True))
    file = machine / "x.conf"
    file.write_text("old")
    readiness = Readiness("its socket", 0.1, socket=str(machine / "none"))
    response = apply(unit(write(file, "bad"), readiness=readiness, stamp=STAMP, **SERVICE))
    assert response.step == "probe"
    assert response.error == "timed out after 0.1 s waiting for its socket"
    assert "does not exist" in response.output
    assert file.read_text() == "old"


@contextlib.contextmanager
def runtime_socket(path: Path, *replies: str) -> Iterator[list[str]]:
    """A runtime socket that sends these replies, the last one repeatedly; yields the requests."""
    requests: list[str] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            while True:
                connection, _ = server.accept()
                with connection:
                    line = connection.recv(100).decode()
                    if not line.strip():
                        return
                    requests.append(line)
                    reply = replies[min(len(requests), len(replies)) - 1]
                    connection.sendall(reply.encode())

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield requests
        finally:
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
                last.sendall(b"\n")
            thread.join()


def test_readiness_is_of_the_process_with_the_new_configuration(tmp_path: Path) -> None:
    """During HAProxy's reload the old process still responds, then both do."""
    readiness = Readiness("x", 5, socket=str(tmp_path / "s"), contains="description: new")
    old, new = "Name: HAProxy\n", "Name: HAProxy\ndescription: new\n"
    with runtime_socket(tmp_path / "s", old, new, old, new) as requests:
        http.wait_until_ready(readiness, silent)
        assert len(requests) == 3 + http.CONSECUTIVE
        http.wait_until_ready(Readiness("x", 5, socket=str(tmp_path / "s")), silent)
        assert len(requests) == 4 + http.CONSECUTIVE


@needs_root
@pytest.mark.parametrize("activate", ["reload", ""])
def test_only_an_activated_process_must_show_the_new_configuration(
    machine: Path, monkeypatch: pytest.MonkeyPatch, activate: str
) -> None:
    with_systemd(monkeypatch, Systemd(running=True))
    path = machine / "s"
    readiness = Readiness("x", 0.1, socket=str(path), contains="description: new")
    request = unit(
        service="x.service", activate=activate, needs_reload=bool(activate), readiness=readiness
    )
    with runtime_socket(path, "description: old"):
        response = apply(request)
    assert response.ok is not bool(activate)


@needs_root
@pytest.mark.parametrize("kind", ["unknown-owner", "bug"])
def test_an_unexpected_error_rolls_the_files_back_too(machine: Path, kind: str) -> None:
    first, second = machine / "first", machine / "second"
    first.write_text("old")
    broken = write(second, "new")
    if kind == "unknown-owner":
        broken["owner"] = "unknown-user"
    else:
        del broken["mode"]
    response = apply(unit(write(first, "new"), broken))
    assert not response.ok
    assert response.step == "change"
    expected = {"unknown-owner": "unknown user", "bug": "KeyError"}
    assert expected[kind] in response.error
    assert first.read_text() == "old"


def test_a_unit_waits_for_one_of_an_earlier_run(machine: Path) -> None:
    logged: list[str] = []
    earlier = units.exclusive(silent)
    with earlier, pytest.raises(AgentError, match="an earlier run still changes"):  # noqa: SIM117
        with units.exclusive(logged.append, timeout=0.1):
            pass
    assert logged == ["waiting for a unit of an earlier run"]
    with units.exclusive(silent, timeout=0.1):
        pass


def test_a_stopped_service_is_started(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd = with_systemd(monkeypatch, Systemd(running=False))
    response = apply(unit(service="x.service", activate="reload"))
    assert response == UnitResponse(True, "start")
    assert systemd.verbs == ["start"]


def test_a_service_that_was_stopped_before_is_stopped_after_a_failure(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_systemd(monkeypatch, Systemd(running=False, fails="start"))
    response = apply(unit(service="x.service", activate="try-restart"))
    assert response == UnitResponse(True, "")
    response = apply(unit(service="x.service", activate="restart"))
    assert (response.step, response.after) == ("activate", "x.service is stopped, as it was before")


def test_programs_that_hang_or_are_not_there() -> None:
    assert run(["sleep", "5"], timeout=0.1).status == 124
    assert run(["no-such-program-at-all"]).status == 127
    args = {"argv": ["sh", "-c", "echo why >&2; exit 9"]}
    with pytest.raises(AgentError) as caught:
        commands.command(args, files.Journal(), silent)
    assert str(caught.value) == "sh -c 'echo why >&2; exit 9' exited with 9"
    assert caught.value.output == "why"


def test_an_http_probe_waits_for_a_status() -> None:
    probe = http.http_probe("x", HttpRequest("/", address="127.0.0.1", port=1), until=200)
    response = http.collect_http(probe.args)
    assert (response.status, "refused" in response.error) == (0, True)


def test_a_wait_ends_at_its_deadline_with_the_last_response() -> None:
    request = HttpRequest("/", address="127.0.0.1", port=1)
    with pytest.raises(AgentTimeoutError, match="waiting for x") as caught:
        http.wait_until_ready(Readiness("x", 0.1, http=request), silent)
    assert "refused" in caught.value.output


def test_a_path_that_cannot_be_restored_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("old\n")
    second.write_text("old\n")
    journal = files.Journal()
    for path in (first, second):
        journal.keep(str(path))
        path.write_text("new\n")

    def fails_for_second(path: str, *args: Any) -> None:
        if path == str(second):
            raise OSError(16, "Device or resource busy")
        write_atomically(path, *args)

    monkeypatch.setattr(files, "write_atomically", fails_for_second)
    with pytest.raises(files.RollbackError, match="second: Device or resource busy") as raised:
        journal.roll_back()
    assert raised.value.restored == (str(first),)
    assert first.read_text() == "old\n"
