"""The state of a lab, atomic writes and locks: complete, never reset, safe against a kill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from provision.core import state
from provision.core.atomic import write_atomically
from provision.core.errors import LabError
from provision.core.lab import ROOT
from provision.core.locks import file_lock, lab_lock
from provision.core.state import State
from provision.core.waiting import wait_until

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


# --- the state file------------------------------------------------------------------------------


def test_saved_state_is_loaded(tmp_path: Path) -> None:
    state.save(tmp_path, GOOD)
    assert state.load(tmp_path) == GOOD
    assert (tmp_path / state.FILE).stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == [state.FILE]


def test_a_file_of_an_earlier_checkout_is_loaded(tmp_path: Path) -> None:
    data = asdict(GOOD)
    del data["target"], data["working"]
    (tmp_path / state.FILE).write_text(json.dumps(data))
    assert state.load(tmp_path) == GOOD


def test_lab_that_does_not_exist(tmp_path: Path) -> None:
    assert state.load(tmp_path / "never") is None
    with pytest.raises(LabError, match="lab never does not exist") as caught:
        state.change(tmp_path / "never", primary="web-02")
    assert caught.value.hint == "invoke lab.up"
    assert state.load(tmp_path / "never") is None


def test_change_changes_only_these_fields(tmp_path: Path) -> None:
    state.save(tmp_path, GOOD)
    changed = state.change(tmp_path, primary="web-01", epoch=4)
    assert changed == replace(GOOD, primary="web-01", epoch=4) == state.load(tmp_path)


def test_change_of_an_unknown_field(tmp_path: Path) -> None:
    state.save(tmp_path, GOOD)
    with pytest.raises(TypeError, match="no field primry"):
        state.change(tmp_path, primry="web-01")


def test_delete(tmp_path: Path) -> None:
    state.save(tmp_path, GOOD)
    state.delete(tmp_path)
    state.delete(tmp_path)
    assert state.load(tmp_path) is None


INVALID: list[tuple[str, dict[str, Any], str]] = [
    ("other", {"colour": "blue"}, "unknown key 'colour'"),
    ("type", {"epoch": "3"}, 'invalid value "3" for epoch; expected a positive integer'),
    ("bool", {"epoch": True}, "invalid value true for epoch; expected a positive integer"),
    ("epoch", {"epoch": 0}, "invalid value 0 for epoch"),
    ("network", {"network": "192.168.56.1/24"}, "for network; expected a network such as"),
    ("topology", {"topology": ""}, "expected the name of a topology"),
    ("mode", {"mode": "passive"}, "expected active-active or active-passive"),
    ("weights", {"weights": {"web-01": 257}}, "expected weights from 0 to 256 by server"),
    ("list", {"weights": ["web-01"]}, "expected weights from 0 to 256 by server"),
    ("admin", {"admin": {"web-01": "gone"}}, "expected one of ready, drain, maint by server"),
    ("switch", {"autopromote": 1}, "expected true or false"),
    ("primary", {"primary": None}, "invalid value null for primary"),
    ("old", {"version": 0}, "invalid value 0 for version; expected 1"),
]


@pytest.mark.parametrize(("name", "invalid", "why"), INVALID, ids=lambda v: str(v)[:12])
def test_invalid_value(tmp_path: Path, name: str, invalid: dict[str, Any], why: str) -> None:
    path = tmp_path / state.FILE
    path.write_text(json.dumps({**asdict(GOOD), **invalid}))
    before = path.read_bytes()
    with pytest.raises(LabError) as caught:
        state.load(tmp_path)
    assert f"{path} is damaged: " in caught.value.what
    assert why in caught.value.what
    assert "super_read_only" in caught.value.hint
    with pytest.raises(LabError, match="is damaged"):
        state.change(tmp_path, primary="web-01")
    assert path.read_bytes() == before


def test_missing_key(tmp_path: Path) -> None:
    data = asdict(GOOD)
    del data["primary"]
    (tmp_path / state.FILE).write_text(json.dumps(data))
    with pytest.raises(LabError, match="missing key 'primary'"):
        state.load(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff", '{"version": 1}' * 2, "[" * 99999])
def test_invalid_json(tmp_path: Path, text: str) -> None:
    (tmp_path / state.FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(LabError, match="is damaged"):
        state.load(tmp_path)


def test_newer_version(tmp_path: Path) -> None:
    (tmp_path / state.FILE).write_text(json.dumps({"version": 2, "primaries": ["web-01"]}))
    with pytest.raises(LabError, match="has version 2; this checkout supports version 1") as caught:
        state.load(tmp_path)
    assert "newer checkout" in caught.value.hint


def test_invalid_state_is_not_written(tmp_path: Path) -> None:
    state.save(tmp_path, GOOD)
    with pytest.raises(LabError, match="expected one of ready"):
        state.change(tmp_path, admin={"web-01": "gone"})
    assert state.load(tmp_path) == GOOD


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_file_is_written_with_its_mode(tmp_path: Path, mode: int) -> None:
    write_atomically(tmp_path / "new" / "file", "text\n", mode)
    assert (tmp_path / "new" / "file").stat().st_mode & 0o777 == mode
    assert (tmp_path / "new" / "file").read_text() == "text\n"


def test_folder_that_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match=r"state\.json cannot be written: ") as caught:
        state.save(tmp_path / "file", GOOD)
    assert "df -h" in caught.value.hint


def test_failed_write_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
from provision.core.locks import file_lock
directory, server = Path(sys.argv[1]), sys.argv[2]
print("started", flush=True)
for _ in range(int(sys.argv[3])):
    with file_lock(directory / "count.lock"):
        before = state.load(directory)
        state.change(directory, epoch=before.epoch + 1)
"""


def test_no_change_of_concurrent_processes_is_lost(tmp_path: Path) -> None:
    state.save(tmp_path, replace(GOOD, epoch=1))
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(program(COUNT, tmp_path, n, 20)) for n in range(4)]
        for process in processes:
            _, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
    final = state.load(tmp_path)
    assert final is not None
    assert final.epoch == 81


def test_kill_while_writing_leaves_a_complete_state(tmp_path: Path) -> None:
    state.save(tmp_path, replace(GOOD, epoch=1))
    last = 1
    for _ in range(5):
        with program(COUNT, tmp_path, 0, 10**6) as process:
            assert first_line(process) == "started"

            def has_changed(since: int = last) -> bool:
                current = state.load(tmp_path)
                return current is not None and current.epoch > since

            wait_until(has_changed, 10, "another change", interval=0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
        left = state.load(tmp_path)
        assert left is not None
        assert left == replace(GOOD, epoch=left.epoch)
        last = state.change(tmp_path, epoch=left.epoch + 1).epoch  # the lock was released


# --- locks ---------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from provision.core.locks import lab_lock
directory = Path(sys.argv[1])
sys.argv = ["/somewhere/invoke", "lab.up", "--lab", directory.name, "a b"]
with lab_lock(directory):
    print("held", flush=True)
    time.sleep(600)
"""


def test_second_command_is_refused_at_once_and_names_the_first(tmp_path: Path) -> None:
    with program(HOLD, tmp_path) as process:
        assert first_line(process) == "held"
        began = time.monotonic()
        with (
            pytest.raises(LabError, match="is in use by another command") as caught,
            lab_lock(tmp_path),
        ):
            pass
        assert time.monotonic() - began < 0.4
        assert f"invoke lab.up --lab {tmp_path.name} 'a b'" in caught.value.what
        assert f"(pid {process.pid})" in caught.value.what
        assert f"kill {process.pid}" in caught.value.hint


def test_lock_ends_when_the_holder_is_killed(tmp_path: Path) -> None:
    with program(HOLD, tmp_path) as process:
        assert first_line(process) == "held"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / "lock.holder").exists()  # is left behind, and ignored
    with lab_lock(tmp_path):
        assert json.loads((tmp_path / "lock.holder").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "lock.holder").exists()


LATE = """
import sys, time
from pathlib import Path
from provision.core import locks
from provision.core.locks import lab_lock
locks.write_atomically = lambda *_: None   # as if killed before it has written its pid
with lab_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    "content",
    [
        '{"pid": 1, "born": "77", "command": "init"}',
        '{"pid": 4194305, "born": "", "command": "a pid above every limit"}',
        '{"pid": 1}',
        "[]",
        "{",
    ],
)
def test_holder_file_of_another_process_is_ignored(tmp_path: Path, content: str) -> None:
    with program(LATE, tmp_path) as process:
        assert first_line(process) == "held"
        (tmp_path / "lock.holder").write_text(content)
        with pytest.raises(LabError) as caught, lab_lock(tmp_path):
            pass
        assert caught.value.what == f"lab {tmp_path.name} is in use by another command"
        assert "fuser -v" in caught.value.hint


def test_holder_file_of_a_dead_process_is_ignored(tmp_path: Path) -> None:
    with program(HOLD, tmp_path) as dead:
        first_line(dead)
        dead.kill()
        dead.wait()
        with program(HOLD, tmp_path) as process:
            assert first_line(process) == "held"
            with pytest.raises(LabError) as caught, lab_lock(tmp_path):
                pass
            assert f"(pid {process.pid})" in caught.value.what


def test_lock_is_reentrant_within_a_process(tmp_path: Path) -> None:
    with lab_lock(tmp_path):
        with lab_lock(tmp_path):
            pass
        with program(HOLD, tmp_path) as process:
            _, err = process.communicate(timeout=60)
            assert "is in use by another command" in err  # the inner exit released nothing
    with lab_lock(tmp_path):
        pass


def test_lock_is_released_when_the_body_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), lab_lock(tmp_path):
        raise KeyboardInterrupt
    with program(HOLD, tmp_path) as process:
        assert first_line(process) == "held"


def test_lab_can_be_removed_under_its_lock(tmp_path: Path) -> None:
    directory = tmp_path / "lab"
    with lab_lock(directory):
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
    with lab_lock(directory):
        assert directory.is_dir()


def test_file_lock_times_out(tmp_path: Path) -> None:
    with (
        file_lock(tmp_path / "g"),
        pytest.raises(LabError, match=r"was locked by another process for 0 s"),
        file_lock(tmp_path / "g", 0.05),
    ):
        pass
