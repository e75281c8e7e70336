"""Probes of random file systems: they return, fail alone, and never open what blocks."""

# ruff: noqa: PTH101, PTH102, PTH112, PTH123, PTH211
from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provision.engine.agent import overwritten, package_files, registry
from provision.engine.agent.atomic import write_atomically
from provision.engine.agent.codec import decode, encode
from provision.engine.agent.commands import command_probe
from provision.engine.agent.files import Journal, path_probe
from provision.engine.agent.filesystem import read_text, shown
from provision.engine.agent.gathering import Gathering
from provision.engine.agent.owned import owned_probe
from provision.engine.agent.process import AgentError, ProcessResult
from provision.engine.agent.protocol import Probe, ProbeResponse, gather_request
from provision.engine.agent.registry import Args
from provision.engine.agent.trees import tree_probe
from provision.engine.agent.unit_files import last_change_probe
from provision.engine.payload import BOOT, payload

FUZZ = settings(max_examples=25, deadline=None, database=None)
KINDS = ("file", "fifo", "socket", "dangling", "circular", "directory", "unreadable", "sparse")

NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
ENTRIES = st.dictionaries(NAMES, st.sampled_from(KINDS), max_size=8)


def make(folder: bytes, name: bytes, kind: str) -> None:
    path = folder + b"/" + name
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener, contextlib.suppress(OSError):
            listener.bind(path)
    elif kind == "dangling":
        os.symlink(b"nowhere\xe9", path)
    elif kind == "circular":
        os.symlink(name, path)
    elif kind == "directory":
        os.mkdir(path)
        os.mkfifo(path + b"/below")
    else:
        with open(path, "wb") as file:
            file.write(b"text\xff\n")
            if kind == "sparse":
                file.truncate(17 << 20)
        os.chmod(path, 0 if kind == "unreadable" else 0o644)


def gather(*probes: Probe[Any], seconds: float = 10.0) -> dict[str, ProbeResponse]:
    """All results, after a trip over the wire as text."""
    started = time.monotonic()
    responses = Gathering(gather_request(probes, seconds)).run(lambda: False)
    assert time.monotonic() - started < seconds
    wire = json.loads(json.dumps(encode(responses)))
    return {name: decode(ProbeResponse, value) for name, value in wire.items()}


@FUZZ
@given(ENTRIES)
def test_every_path_has_a_result(entries: dict[bytes, str]) -> None:
    top = tempfile.mkdtemp().encode()
    try:
        for name, kind in entries.items():
            make(top, name, kind)
        folder = os.fsdecode(top)
        paths = [os.fsdecode(top + b"/" + name) for name in entries]
        probes: list[Probe[Any]] = [
            *(path_probe(path, secret=index % 2 == 0) for index, path in enumerate(paths)),
            *(path_probe(f"{path}/below") for path in paths),
            tree_probe(folder),
            last_change_probe("x", [folder, *paths]),
            owned_probe(folder, ("*",), ()),
        ]
        responses = gather(*probes)
        assert not {name: r.error for name, r in responses.items() if r.error}
        for path in paths:
            assert shown(path).isprintable()
            with contextlib.suppress(AgentError):  # larger than the limit
                read_text(path)
            package_files.md5(path)
    finally:
        shutil.rmtree(top)


@FUZZ
@given(st.sampled_from(KINDS), NAMES)
def test_files_of_every_kind_are_replaced_and_rolled_back(kind: str, name: bytes) -> None:
    top = tempfile.mkdtemp()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(overwritten, "FOLDER", f"{top}/copies")
        try:
            make(top.encode(), name, kind)
            path = f"{top}/{os.fsdecode(name)}"
            before = os.lstat(path)
            journal = Journal()
            journal.keep(path)
            write_atomically(path, b"ours", 0o644, os.getuid(), os.getgid())
            assert Path(path).read_text() == "ours"
            journal.roll_back()
            assert os.lstat(path).st_mode == before.st_mode
            journal = Journal()
            journal.make_parents(f"{path}/a/b")
            assert os.path.isdir(f"{path}/a")
        finally:
            shutil.rmtree(top)


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[Path]:
    """A folder whose entries change their kind all the time."""
    stop = threading.Event()
    path = os.fsencode(tmp_path)

    def change() -> None:
        for round_ in range(1_000_000):
            if stop.is_set():
                return
            name = b"entry"
            with contextlib.suppress(OSError):
                make(path, name, KINDS[round_ % len(KINDS)])
            with contextlib.suppress(OSError):
                Path(os.fsdecode(path), "entry").unlink()
            shutil.rmtree(path + b"/" + name, ignore_errors=True)

    thread = threading.Thread(target=change)
    thread.start()
    yield tmp_path
    stop.set()
    thread.join()


def test_entries_that_change_meanwhile(changing: Path) -> None:
    path = str(changing / "entry")
    until = time.monotonic() + 2
    while time.monotonic() < until:
        responses = gather(path_probe(path), tree_probe(str(changing)), path_probe("/none"))
        assert not responses["path /none"].error
        assert not responses[f"tree {changing}"].error
        with contextlib.suppress(OSError, AgentError):
            read_text(path)


def test_a_blocked_probe_is_abandoned_alone() -> None:
    hung = Probe("command", "hung", {"argv": ["sleep", "4"], "timeout": 5}, ProcessResult, 0.5)
    responses = gather(hung, path_probe("/none"))
    assert responses["hung"] == ProbeResponse(error="no result in 0.5 s", late=True)
    assert not responses["path /none"].error


def test_a_batch_that_blocks_is_repeated_probe_by_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    def collect_all(batch: Sequence[Args]) -> list[ProcessResult]:
        if any(args["blocks"] for args in batch):
            time.sleep(3)
        return [ProcessResult(0, "", "")] * len(batch)

    monkeypatch.setitem(registry.REGISTERED, "collector slow", collect_all)
    probes = [Probe("slow", f"{n}", {"blocks": n == 1}, ProcessResult, 0.6) for n in range(3)]
    responses = gather(*probes)
    assert [name for name, r in responses.items() if r.error] == ["1"]


def agent() -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-I", "-c", BOOT], stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    process.stdin.write(payload())
    process.stdin.flush()
    return process


@pytest.mark.parametrize("argv", [["sleep", "60"], ["sh", "-c", "trap '' TERM; sleep 60 & wait"]])
def test_an_agent_ends_with_its_controller(argv: list[str]) -> None:
    process = agent()
    assert process.stdin is not None
    assert process.stdout is not None
    request = encode(gather_request([command_probe(argv, timeout=60)]))
    message = {"id": 1, "operation": "gather", "args": request}
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()
    assert b"pid" in process.stdout.readline() + process.stdout.readline()
    time.sleep(0.5)
    process.stdin.close()
    try:
        assert process.wait(5) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.stdout.close()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain é", "plain é"),
        ("caf\udce9", "caf\\xe9"),
        ("a\nb\x1b", "a\\nb\\x1b"),
        ("\ud800", "\\ud800"),
    ],
)
def test_names_in_messages(name: str, text: str) -> None:
    assert shown(name) == text
