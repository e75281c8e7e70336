"""Files of other projects are unchanged, and the page loads nothing from anywhere else."""

from __future__ import annotations

import hashlib
import re

import pytest

from provision.board.app import STATIC

VENDOR = STATIC / "vendor"
OWN = sorted(path for path in STATIC.iterdir() if path.is_file())


def test_vendored_files_are_those_that_are_recorded() -> None:
    recorded = re.findall(r"(?m)^([0-9a-f]{64})  (\S+)$", (VENDOR / "VERSIONS.txt").read_text())
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir()}
    files.pop("VERSIONS.txt")
    assert {name: digest for digest, name in recorded} == files
    for name in ("LICENSE.xterm", "LICENSE.addon-fit"):
        assert "Permission is hereby granted" in (VENDOR / name).read_text()


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_own_files_name_no_other_place(path: object) -> None:
    text = path.read_text()  # type: ignore[attr-defined]
    for address in re.findall(r"(?:https?:)?//[\w.-]+", text):
        assert address in ("http://www.w3.org",) or address.startswith("// "), address
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)
    assert not re.search(r"<script(?![^>]*src=)|<style|style=|\son\w+=", text)


def test_imports_are_relative_and_exist() -> None:
    for path in STATIC.glob("*.js"):
        for target in re.findall(r'from "([^"]+)"', path.read_text()):
            assert (path.parent / target).is_file(), (path.name, target)
