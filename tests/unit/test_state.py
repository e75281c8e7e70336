"""The record of a lab, and the lock on it: whole, never silently reset, safe against a kill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from provision.core import state
from provision.core.errors import LabError
from provision.core.lab import ROOT
from provision.core.state import State

GOOD = State(
    topology="distributed",
    provider="lxc",
    network="192.168.56.0/24",
    primary="web-02",
    epoch=3,
    mode="active-passive",
    algorithm="leastconn",
    weights={"web-01": 10},
    admin={"web-02": "drain"},
    release="1.2.0",
    autopromote=True,
)


@contextlib.contextmanager
def program(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Another Python process that runs this code; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


# --- the record ----------------------------------------------------------------------------------


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    state.save(tmp_path, GOOD)
    assert state.load(tmp_path) == GOOD
    assert (tmp_path / state.FILE).stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == [state.FILE]


def test_a_lab_that_never_was(tmp_path: Path) -> None:
    assert state.load(tmp_path / "never") is None
    with pytest.raises(LabError, match="there is no lab never here") as caught:
        state.change(tmp_path / "never", primary="web-02")
    assert caught.value.advice == "invoke lab.up --lab never"
    assert state.load(tmp_path / "never") is None


def test_change_changes_that_and_nothing_else(tmp_path: Path) -> None:
    state.save(tmp_path, GOOD)
    got = state.change(tmp_path, primary="web-01", epoch=4)
    assert got == replace(GOOD, primary="web-01", epoch=4) == state.load(tmp_path)


def test_change_of_a_field_that_does_not_exist(tmp_path: Path) -> None:
    state.save(tmp_path, GOOD)
    with pytest.raises(TypeError, match="no field primry"):
        state.change(tmp_path, primry="web-01")


def test_forget(tmp_path: Path) -> None:
    state.save(tmp_path, GOOD)
    state.forget(tmp_path)
    state.forget(tmp_path)
    assert state.load(tmp_path) is None


SPOILT: list[tuple[str, dict[str, Any], str]] = [
    ("other", {"colour": "blue"}, "nothing is known of a key 'colour'"),
    ("type", {"epoch": "3"}, 'epoch is "3", not a number from 1'),
    ("bool", {"epoch": True}, "epoch is true, not a number from 1"),
    ("epoch", {"epoch": 0}, "epoch is 0, not a number from 1"),
    ("network", {"network": "192.168.56.1/24"}, "not a network"),
    ("topology", {"topology": ""}, "not the name of a topology"),
    ("mode", {"mode": "passive"}, "not a mode"),
    ("weights", {"weights": {"web-01": 257}}, "not weights from 0 to 256"),
    ("list", {"weights": ["web-01"]}, "not weights from 0 to 256"),
    ("admin", {"admin": {"web-01": "gone"}}, "not one of ready, drain, maint"),
    ("switch", {"autopromote": 1}, "not true or false"),
    ("primary", {"primary": None}, "primary is null"),
    ("old", {"version": 0}, "version is 0"),
]


@pytest.mark.parametrize(("name", "spoilt", "why"), SPOILT, ids=lambda v: str(v)[:12])
def test_a_record_that_cannot_be_meant(
    tmp_path: Path, name: str, spoilt: dict[str, Any], why: str
) -> None:
    path = tmp_path / state.FILE
    path.write_text(json.dumps({**asdict(GOOD), **spoilt}))
    before = path.read_bytes()
    with pytest.raises(LabError) as caught:
        state.load(tmp_path)
    assert f"{path} is damaged: " in caught.value.what
    assert why in caught.value.what
    assert "super_read_only" in caught.value.advice
    with pytest.raises(LabError, match="is damaged"):
        state.change(tmp_path, primary="web-01")
    assert path.read_bytes() == before


def test_a_key_that_is_missing(tmp_path: Path) -> None:
    data = asdict(GOOD)
    del data["primary"]
    (tmp_path / state.FILE).write_text(json.dumps(data))
    with pytest.raises(LabError, match="primary is missing"):
        state.load(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff", '{"version": 1}' * 2, "[" * 99999])
def test_not_even_json(tmp_path: Path, text: str) -> None:
    (tmp_path / state.FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(LabError, match="is damaged"):
        state.load(tmp_path)


def test_a_newer_version(tmp_path: Path) -> None:
    (tmp_path / state.FILE).write_text(json.dumps({"version": 2, "primaries": ["web-01"]}))
    with pytest.raises(LabError, match="of version 2; this checkout knows version 1") as caught:
        state.load(tmp_path)
    assert "newer checkout" in caught.value.advice


def test_a_wrong_record_is_not_written(tmp_path: Path) -> None:
    state.save(tmp_path, GOOD)
    with pytest.raises(LabError, match="not one of ready"):
        state.change(tmp_path, admin={"web-01": "gone"})
    assert state.load(tmp_path) == GOOD


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_has_its_mode(tmp_path: Path, mode: int) -> None:
    state.write(tmp_path / "new" / "file", "text\n", mode)
    assert (tmp_path / "new" / "file").stat().st_mode & 0o777 == mode
    assert (tmp_path / "new" / "file").read_text() == "text\n"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match=r"state\.json cannot be written: ") as caught:
        state.save(tmp_path / "file", GOOD)
    assert "df -h" in caught.value.advice


def test_a_failed_write_leaves_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state.save(tmp_path, GOOD)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LabError, match="No space left on device"):
        state.change(tmp_path, epoch=9)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".state.lock", state.FILE]
    assert state.load(tmp_path) == GOOD


COUNT = """
import sys
from pathlib import Path
from provision.core import state
directory, server = Path(sys.argv[1]), sys.argv[2]
print("started", flush=True)
for _ in range(int(sys.argv[3])):
    with state.guard(directory / "count.lock"):
        before = state.load(directory)
        state.change(directory, epoch=before.epoch + 1)
"""


def test_changes_of_several_processes_are_all_kept(tmp_path: Path) -> None:
    state.save(tmp_path, replace(GOOD, epoch=1))
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(program(COUNT, tmp_path, n, 20)) for n in range(4)]
        for process in crowd:
            _, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
    got = state.load(tmp_path)
    assert got is not None
    assert got.epoch == 81


def test_a_kill_while_writing_leaves_a_whole_record(tmp_path: Path) -> None:
    state.save(tmp_path, replace(GOOD, epoch=1))
    last = 1
    for _ in range(5):
        with program(COUNT, tmp_path, 0, 10**6) as process:
            assert first_line(process) == "started"

            def further(than: int = last) -> bool:
                got = state.load(tmp_path)
                return got is not None and got.epoch > than

            wait_for(further)
            process.send_signal(signal.SIGKILL)
            process.wait()
        got = state.load(tmp_path)
        assert got is not None
        assert got == replace(GOOD, epoch=got.epoch)
        last = state.change(tmp_path, epoch=got.epoch + 1).epoch  # nothing is left locked


# --- the lock ------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from provision.core import state
directory = Path(sys.argv[1])
sys.argv = ["/somewhere/invoke", "lab.up", "--lab", directory.name, "a b"]
with state.lock(directory):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_is_refused_at_once_and_told_who(tmp_path: Path) -> None:
    with program(HOLD, tmp_path) as process:
        assert first_line(process) == "held"
        began = time.monotonic()
        with (
            pytest.raises(LabError, match="is in use by another command") as caught,
            state.lock(tmp_path),
        ):
            pass
        assert time.monotonic() - began < 0.4
        assert f"invoke lab.up --lab {tmp_path.name} 'a b'" in caught.value.what
        assert f"(pid {process.pid})" in caught.value.what
        assert f"kill {process.pid}" in caught.value.advice


def test_the_kernel_frees_it_when_the_holder_is_killed(tmp_path: Path) -> None:
    with program(HOLD, tmp_path) as process:
        assert first_line(process) == "held"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / "lock.holder").exists()  # its note stays behind, and does not matter
    with state.lock(tmp_path):
        assert json.loads((tmp_path / "lock.holder").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "lock.holder").exists()


LATE = """
import sys, time
from pathlib import Path
from provision.core import state
state.write = lambda *_: None   # dies, so to speak, before it has said who it is
with state.lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    "note",
    [
        '{"pid": 1, "born": "77", "command": "init"}',
        '{"pid": 4194305, "born": "", "command": "a pid above every limit"}',
        '{"pid": 1}',
        "[]",
        "{",
    ],
)
def test_a_note_of_somebody_else_is_not_believed(tmp_path: Path, note: str) -> None:
    with program(LATE, tmp_path) as process:
        assert first_line(process) == "held"
        (tmp_path / "lock.holder").write_text(note)
        with pytest.raises(LabError) as caught, state.lock(tmp_path):
            pass
        assert caught.value.what == f"lab {tmp_path.name} is in use by another command"
        assert "fuser -v" in caught.value.advice


def test_a_dead_holders_note_is_not_shown_for_the_living_one(tmp_path: Path) -> None:
    with program(HOLD, tmp_path) as dead:
        first_line(dead)
        dead.kill()
        dead.wait()
        with program(HOLD, tmp_path) as process:
            assert first_line(process) == "held"
            with pytest.raises(LabError) as caught, state.lock(tmp_path):
                pass
            assert f"(pid {process.pid})" in caught.value.what


def test_one_process_may_take_it_again(tmp_path: Path) -> None:
    with state.lock(tmp_path):
        with state.lock(tmp_path):
            pass
        with program(HOLD, tmp_path) as process:
            _, err = process.communicate(timeout=60)
            assert "is in use by another command" in err  # the inner end freed nothing
    with state.lock(tmp_path):
        pass


def test_it_is_freed_when_the_body_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), state.lock(tmp_path):
        raise KeyboardInterrupt
    with program(HOLD, tmp_path) as process:
        assert first_line(process) == "held"


def test_a_lab_can_be_removed_under_its_lock(tmp_path: Path) -> None:
    directory = tmp_path / "lab"
    with state.lock(directory):
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
    with state.lock(directory):
        assert directory.is_dir()


def test_a_guard_that_is_not_freed(tmp_path: Path) -> None:
    with (
        state.guard(tmp_path / "g"),
        pytest.raises(LabError, match=r"was held by another process for 0 s"),
        state.guard(tmp_path / "g", 0.05),
    ):
        pass
