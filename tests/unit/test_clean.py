"""Giving machines back: what stays because something that was there before needs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.engine.agent import core, originals
from provision.operations import clean
from provision.operations.clean import Cleaning


def test_what_was_there_keeps_what_it_needs_now() -> None:
    wants: dict[str, list[set[str]]] = {
        "libgcc-s1": [{"gcc-16-base"}, {"libc6"}],
        "tool": [{"perl", "perl-base"}, {"gone"}],
        "mysql-server": [{"libicu78"}, {"perl"}],
        "libc6": [],
        "gcc-16-base": [],
        "libicu78": [],
        "perl": [],
        "perl-base": [],
    }
    kept = originals.needed({"libgcc-s1", "libc6", "tool", "perl-base"}, wants)
    assert kept == {"libgcc-s1", "libc6", "tool", "perl-base", "gcc-16-base"}


def test_relations_of_packages_are_read_with_what_provides_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = (
        "a\tinstalled\t\tlibc6 (>= 2.34), b:any | c, mail\n"
        "m\tinstalled\tmail (= 1), other\t, \n"
        "old\tconfig-files\t\tlibc6, \n"
    )
    monkeypatch.setattr(originals, "run", lambda _argv: core.Done(0, said, ""))
    assert originals.depends() == {"a": [{"libc6"}, {"b", "c"}, {"mail", "m"}], "m": []}


def test_originals_are_kept_once_and_name_the_folder_that_is_missing(tmp_path: Path) -> None:
    there, link = tmp_path / "file", tmp_path / "link"
    there.write_text("before")
    there.chmod(0o640)
    link.symlink_to("file")
    found = originals.original(str(there))
    assert (found["type"], found["content"], found["mode"]) == ("file", "YmVmb3Jl", 0o640)
    assert originals.original(str(link)) == {"type": "link", "target": "file"}
    absent = originals.original(str(tmp_path / "a" / "b" / "c"))
    assert absent == {"type": "absent", "missing": str(tmp_path / "a")}
    assert originals.original(str(tmp_path))["type"] == "directory"


def test_a_plan_is_shown_part_by_part() -> None:
    answer = {
        "known": True,
        "purge": ["nginx"],
        "stay": ["libc6 2.43"],
        "remove": ["/srv/foobar", "/etc/nginx"],
        "restore": [],
        "users": ["foobar"],
    }
    assert clean.understand("web-01", answer).lines() == [
        "web-01:",
        "  packages that go:\n      nginx",
        "  removed:\n      /srv/foobar\n      /etc/nginx",
        "  accounts that go:\n      foobar",
        "  newer than before, and stay:\n      libc6 2.43",
    ]
    assert clean.understand("web-01", {"known": False}) == Cleaning("web-01", False)
    assert Cleaning("web-01", False).lines() == ["web-01: the lab has changed nothing there"]
    assert Cleaning("web-01", True).lines()[1] == "  nothing is left of the lab there"
