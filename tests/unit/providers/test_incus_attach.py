"""Programs in instances of Incus, against a small server with real HTTP and WebSockets."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.core.errors import ProviderError
from provision.core.lab import ROOT
from provision.engine.agent.codec import encode
from provision.providers.incus import attach
from provision.providers.incus.client import IncusClient
from provision.providers.incus.record import LabRecord
from provision.providers.incus.remote import Remote
from tests.unit.providers.fake_incus import FakeIncus, serving

MACHINE = "lab-1-web-01"


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeIncus]:
    """A server with one instance, and the record of a lab on it."""
    fake = FakeIncus()
    fake.instances[MACHINE] = {"name": MACHINE, "status": "Running"}
    path = tmp_path / "unix.socket"
    (tmp_path / "incus.json").write_text(json.dumps(encode(LabRecord(Remote("", str(path))))))
    with serving(fake, path):
        yield fake


def attached(
    folder: Path, *argv: str, seconds: float = 20, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """The module as the provider runs it."""
    words = [str(folder / "incus.json"), MACHINE, f"{seconds:g}", *argv]
    result = subprocess.run(
        [sys.executable, "-m", "provision.providers.incus.attach", *words],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in result.stderr
    return result


def test_stdin_stdout_stderr_and_the_exit_status_are_those_of_the_program(
    fake: FakeIncus, tmp_path: Path
) -> None:
    text = "words\n" * 50_000
    result = attached(tmp_path, "cat", "-n", stdin=text)
    assert (result.stdout, result.stderr, result.returncode) == (text.upper(), "warning", 7)
    assert fake.program.request["command"] == ["cat", "-n"]
    assert fake.program.request["interactive"] is False


def test_control_is_opened_before_the_program_can_end(fake: FakeIncus, tmp_path: Path) -> None:
    attached(tmp_path, "true")
    assert fake.program.opened == ["control", "0", "1", "2"]


def test_a_shell_without_a_terminal_reads_its_commands_from_stdin(
    fake: FakeIncus, tmp_path: Path
) -> None:
    assert attached(tmp_path, stdin="id").stdout == "ID"
    assert fake.program.request["command"] == ["/bin/bash", "-l"]
    assert fake.program.request["interactive"] is False


@pytest.mark.parametrize("name", ["control", "0", "2"])
def test_a_server_that_never_answers_a_stream(fake: FakeIncus, tmp_path: Path, name: str) -> None:
    fake.program.mute.add(name)
    started = time.monotonic()
    result = attached(tmp_path, "true", seconds=2)
    assert time.monotonic() - started < 30
    assert result.returncode == attach.FAILED
    first, *rest = result.stderr.splitlines()
    assert first.startswith("error: Incus at ")
    assert first.endswith(f"has not opened the stream {name} of the program within 2 s")
    assert len(rest) <= 1


def test_a_server_that_never_answers_at_all(tmp_path: Path) -> None:
    path = tmp_path / "silent.socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        client = IncusClient(Remote("", str(path)))
        with pytest.raises(
            ProviderError, match=r"is unreachable at .*\(timed out\)[^:]*: sudo systemctl restart"
        ):
            attach.run(client, MACHINE, ["true"], 0.2)


def test_a_stream_that_is_refused_is_one_message(fake: FakeIncus, tmp_path: Path) -> None:
    fake.program.refused.add("1")
    result = attached(tmp_path, "true")
    assert result.returncode == attach.FAILED
    assert "refused the stream 1 of the program: server rejected" in result.stderr
    assert "run the same command again" in result.stderr


def test_a_program_that_does_not_end_is_killed(fake: FakeIncus, tmp_path: Path) -> None:
    fake.program.endless = True
    started = time.monotonic()
    result = attached(tmp_path, "sleep", "1000", seconds=1)
    assert time.monotonic() - started < 30
    assert result.returncode == attach.FAILED
    assert "sleep has not ended in time in the instance, and is killed" in result.stderr
    assert fake.program.killed.wait(5)


def test_an_end_without_a_status(fake: FakeIncus, tmp_path: Path) -> None:
    fake.program.result = {}
    result = attached(tmp_path, "true")
    assert result.returncode == attach.FAILED
    assert "does not say how true has ended" in result.stderr


def test_a_record_that_is_gone(tmp_path: Path) -> None:
    result = attached(tmp_path, "true")
    assert result.returncode == attach.FAILED
    assert "incus.json cannot be read" in result.stderr


def test_a_terminal_has_no_limit(
    monkeypatch: pytest.MonkeyPatch, fake: FakeIncus, tmp_path: Path
) -> None:
    limits: list[float | None] = []

    def run(_client: object, _instance: str, _argv: object, seconds: float | None) -> int:
        limits.append(seconds)
        return 0

    monkeypatch.setattr(attach, "run", run)
    words = [str(tmp_path / "incus.json"), MACHINE, "60", "true"]
    main, other = pty.openpty()
    saved = [os.dup(number) for number in (0, 1)]
    try:
        for number in (0, 1):
            os.dup2(other, number)
        attach.main(words)
        with (tmp_path / "file").open("wb") as file:
            os.dup2(file.fileno(), 1)
        attach.main(words)
    finally:
        for number, copy in enumerate(saved):
            os.dup2(copy, number)
            os.close(copy)
        os.close(main)
        os.close(other)
    assert limits == [None, 60.0]
