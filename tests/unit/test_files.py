"""Files that a user asks for: whole or not at all."""

from __future__ import annotations

import ast
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.core.atomic import create_file
from provision.core.errors import LabError, UsageError
from provision.core.lab import ROOT


def test_a_new_file_is_whole(tmp_path: Path) -> None:
    create_file(tmp_path / "a.md", "text\n")
    assert (tmp_path / "a.md").read_text() == "text\n"
    assert (tmp_path / "a.md").stat().st_mode & 0o777 == 0o644


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        create_file(tmp_path / "a.md", "text\n")
    assert (tmp_path / "a.md").read_text() == "mine"


def test_on_a_full_disk_there_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LabError, match="No space left on device"):
        create_file(tmp_path / "a.md", "text\n")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot be written"):
        create_file(tmp_path / "none" / "a.md", "text\n")


def writes(tree: ast.AST) -> Iterator[int]:
    """Lines that write a file in place."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, first = node.func.attr, node.args[0] if node.args else None
        mode = first.value if isinstance(first, ast.Constant) else ""
        in_place = name == "open" and str(mode).startswith(("w", "x"))
        if name in ("write_text", "write_bytes") or in_place:
            yield node.lineno


@pytest.mark.parametrize("package", ["board", "commands", "drills", "teaching"])
def test_no_command_writes_a_file_in_place(package: str) -> None:
    for path in (ROOT / "provision" / package).rglob("*.py"):
        assert not list(writes(ast.parse(path.read_text(encoding="utf-8")))), path
