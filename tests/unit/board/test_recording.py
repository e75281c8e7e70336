"""Recordings: off by default, output only, markers, and an end that leaves the terminal alive."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from provision.board import casts, limits, recording
from provision.board.recording import Cast, CastMarker
from provision.board.replay import SafeOutput, play
from provision.core.errors import LabError
from provision.drills import events
from tests.unit.board.rooms import RunningBoard


def recorded(folder: Path) -> list[Any]:
    """The rows of the only recording."""
    (path,) = recording.folder(folder).glob("*.cast")
    assert path.stat().st_mode & 0o777 == 0o600
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_nothing_is_recorded_until_the_teacher_turns_it_on(tmp_path: Path) -> None:
    running = RunningBoard(tmp_path, ("red",))
    directory = running.directory("red")
    try:
        red, teacher = running.client("red"), running.client()
        with running.shell("red") as shell:
            assert shell.wait(lambda s: bool(s.state)).state["recorded"] is False
            shell.type("echo before\r")
            shell.wait_for("\r\nbefore")
            assert not recording.folder(directory).exists()
            teacher.post("/api/recording", team="*", on=True)
            shell.wait(lambda s: s.state["recorded"] is True)
            with red.socket("/ws/lab") as socket:
                while not json.loads(socket.recv(10))["recording"]:
                    pass
            values = {"drill": "x", "seed": "1", "minutes": 5, "path": "/nowhere"}
            events.append(directory, 1, "starting", **values)
            events.append(directory, 1, "started")
            shell.type("stty -echo; read SECRET; stty echo; echo read\r")
            shell.wait_for("stty echo")
            time.sleep(0.5)
            shell.type("hunter22\r")
            shell.wait_for("\r\nread")
            shell.send(type="resize", columns=120, rows=40)
            shell.wait(lambda s: s.state["columns"] == 120)
            events.append(directory, 1, "hint", number=0, text="look")  # just before the end
            teacher.post("/api/recording", team="red", on=False)
            shell.wait(lambda s: s.state["recorded"] is False)
            shell.type("echo afterwards\r")
            shell.wait_for("\r\nafterwards")
        header, *rows = recorded(directory)
        assert (header["version"], header["width"], header["height"]) == (2, 100, 30)
        output = "".join(row[2] for row in rows if row[1] == "o")
        assert "read" in output
        for absent in ("hunter22", "before", "afterwards"):
            assert absent not in json.dumps(rows)
        assert [row[2] for row in rows if row[1] == "r"] == ["120x40"]
        marks = [row[2] for row in rows if row[1] == "m"]
        assert marks == ["run 1: starts x", "run 1: the fault is in place", "run 1: hint 1"]
        assert [row[0] for row in rows] == sorted(row[0] for row in rows)
        (listed,) = red.get("/api/recordings")["recordings"]
        assert (listed["machine"], listed["runs"]) == ("web-01", [1])
        status, _, body = red.request("GET", f"/api/cast?name={listed['name']}")
        assert (status, body.count(b"\n")) == (200, len(rows) + 1)
    finally:
        running.close()


def test_a_full_disk_ends_the_recording_and_not_the_terminal(
    board: RunningBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/dev/full accepts no byte, as a full disk does."""
    monkeypatch.setattr(recording, "_create", lambda path: open("/dev/full", "w"))  # noqa: PTH123, SIM115
    teacher = board.client()
    with board.shell("blue") as shell:
        try:
            teacher.post("/api/recording", team="blue", on=True)
            shell.type("echo full\r")
            shell.wait_for("\r\nfull")
            shell.wait(lambda s: "No space left on device" in s.state.get("notice", ""))
            assert shell.state["recorded"] is False
        finally:
            teacher.post("/api/recording", team="blue", on=False)


def test_a_folder_that_cannot_be_written(board: RunningBoard) -> None:
    recording.folder(board.directory("blue")).mkdir(exist_ok=True)
    folder = recording.folder(board.directory("blue"))
    kept = folder.rename(folder.with_name("kept"))
    folder.write_text("a file is in its place")
    try:
        status, _, body = board.client().request(
            "POST", "/api/recording", {"team": "blue", "on": True}
        )
        assert (status, b"recordings" in body) == (400, True)
    finally:
        folder.unlink()
        kept.rename(folder)


def test_a_recording_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "RECORDING_BYTES", 2000)
    cast = Cast(tmp_path, "web-01", 1, (80, 24))
    while cast.output(b"x" * 100):
        pass
    assert "has reached" in cast.problem
    assert cast.path.stat().st_size <= 2000
    assert not cast.mark(CastMarker(1, "late"))
    assert limits.RECORDING_BYTES > 2000


def test_a_character_that_is_split_over_two_reads(tmp_path: Path) -> None:
    cast = Cast(tmp_path, "web-01", 1, (80, 24))
    cast.output("ä".encode()[:1])
    cast.output("ä".encode()[1:])
    cast.output(b"\xff")
    cast.close()
    _, *rows = recorded(tmp_path)
    assert [row[2] for row in rows] == ["ä", "\ufffd"]


def three_runs(folder: Path) -> None:
    rows: list[Any] = [{"version": 2, "width": 80, "height": 24, "timestamp": 10, "title": "db-01"}]
    rows += [[0.5, "o", "$ "], [1, "m", "run 1: starts x"], [2, "o", "first\r\n"]]
    rows += [[3, "m", "run 2: starts y"], [60, "o", "second\r\n"], [61, "m", "run 2: solved"]]
    path = recording.folder(folder) / "20260101T000000-db-01-1.cast"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(map(json.dumps, rows)) + '\n[62, "o", "cut of')


def test_a_run_is_replayed_with_its_markers_and_short_pauses(tmp_path: Path) -> None:
    three_runs(tmp_path)
    (cast,) = casts.of_run(tmp_path, 2)
    assert (cast.machine, cast.runs, cast.seconds) == ("db-01", (1, 2), 61)
    texts: list[str] = []
    pauses: list[float] = []
    play(cast, 2, 2.0, texts.append, pauses.append)
    assert pauses == [1.0, 0.5]
    text = "".join(texts)
    assert text.index("first") < text.index("run 2: starts y") < text.index("second")
    texts.clear()
    play(cast, 1, 1.0, texts.append, pauses.append)
    assert "second" not in "".join(texts)


def test_a_run_without_a_recording(tmp_path: Path) -> None:
    three_runs(tmp_path)
    with pytest.raises(LabError, match="run 7 has no recording") as caught:
        casts.of_run(tmp_path, 7)
    assert caught.value.hint == "recorded runs: 1, 2"
    with pytest.raises(LabError) as caught:
        casts.of_run(tmp_path / "other", 1)
    assert "board.serve" in caught.value.hint


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (["a\x1b]0;title\x07b"], "ab"),
        (["a\x1b]52;c;cGFzdGU=\x1b\\b"], "ab"),
        (["a\x1b]5", "2;c;cGF", "z\x07b"], "ab"),
        (["a\x1b", "]0;x\x07b"], "ab"),
        (["a\x1bP$q\x1b\\b", "\x9dx\x9cc"], "abc"),
        (["a\x1b[cb\x1b[6nc\x1b[?1;2cd\x05"], "abcd"),
        (["\x1b[31mred\x1b[0m\x1b[2J\x1b[3;4H"], "\x1b[31mred\x1b[0m\x1b[2J\x1b[3;4H"),
    ],
)
def test_a_replay_cannot_take_over_the_terminal(chunks: list[str], expected: str) -> None:
    safe = SafeOutput()
    assert "".join(map(safe.filter, chunks)) == expected


def test_what_is_no_recording_is_ignored(tmp_path: Path) -> None:
    folder = recording.folder(tmp_path)
    folder.mkdir()
    for name, text in {"a.cast": "", "b.cast": "{}", "c.cast": "[1]", "d.cast": "nonsense"}.items():
        (folder / name).write_text(text)
    assert casts.of_lab(tmp_path) == []


def test_the_oldest_recordings_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "RECORDINGS_KEPT", 3)
    for number in range(5):
        cast = Cast(tmp_path, "web-01", number, (80, 24))
        assert cast.output(b"x")
        cast.close()
        time.sleep(0.02)  # a time stamp of the file system is as coarse as the kernel's clock tick
    left = sorted(path.stem[-1] for path in recording.folder(tmp_path).glob("*.cast"))
    assert left == ["2", "3", "4"]
