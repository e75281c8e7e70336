"""lab.clean: packages that earlier packages depend on are kept; the plan as text."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.engine.agent import originals
from provision.engine.agent.originals import CleanupPlan, OriginalPath
from provision.engine.agent.process import ProcessResult
from provision.operations.original_state import changed_by_lab, plan_lines
from tests.unit.samples import context


def test_packages_from_before_keep_their_dependencies() -> None:
    dependencies: dict[str, list[set[str]]] = {
        "libgcc-s1": [{"gcc-16-base"}, {"libc6"}],
        "tool": [{"perl", "perl-base"}, {"gone"}],
        "mysql-server": [{"libicu78"}, {"perl"}],
        "libc6": [],
        "gcc-16-base": [],
        "libicu78": [],
        "perl": [],
        "perl-base": [],
    }
    kept = originals.required({"libgcc-s1", "libc6", "tool", "perl-base"}, dependencies)
    assert kept == {"libgcc-s1", "libc6", "tool", "perl-base", "gcc-16-base"}


def test_dependencies_include_the_packages_that_provide_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = (
        "a\tinstalled\t\tlibc6 (>= 2.34), b:any | c, mail\n"
        "m\tinstalled\tmail (= 1), other\t, \n"
        "old\tconfig-files\t\tlibc6, \n"
    )
    monkeypatch.setattr(originals, "run", lambda _argv: ProcessResult(0, output, ""))
    assert originals.dependencies() == {"a": [{"libc6"}, {"b", "c"}, {"mail", "m"}], "m": []}


def test_an_absent_path_is_recorded_with_its_highest_missing_folder(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("before")
    file.chmod(0o640)
    link.symlink_to("file")
    recorded = originals.original(str(file))
    assert (recorded.type, recorded.content, recorded.mode) == ("file", "YmVmb3Jl", 0o640)
    assert originals.original(str(link)) == OriginalPath("link", target="file")
    absent = originals.original(str(tmp_path / "a" / "b" / "c"))
    assert absent == OriginalPath("absent", missing=str(tmp_path / "a"))
    assert originals.original(str(tmp_path)).type == "directory"


def test_a_plan_is_shown_section_by_section() -> None:
    plan = CleanupPlan(
        True,
        purge=("nginx",),
        stay=("libc6 2.43",),
        remove=("/srv/foobar", "/etc/nginx"),
        users=("foobar",),
    )
    assert plan_lines("web-01", plan) == [
        "web-01:",
        "  packages to purge:\n      nginx",
        "  files and folders to remove:\n      /srv/foobar\n      /etc/nginx",
        "  accounts to remove:\n      foobar",
        "  upgraded packages, which stay:\n      libc6 2.43",
    ]
    unchanged = plan_lines("web-01", CleanupPlan(False))
    assert unchanged == ["web-01: the lab has changed nothing there"]
    assert plan_lines("web-01", CleanupPlan(True))[1] == "  nothing of the lab is left"


def test_changed_paths_include_the_data_of_services() -> None:
    lab = context()
    paths, users = changed_by_lab(lab, lab.lab.machine("web-01"))
    assert {"/etc/nginx/nginx.conf", "/var/lib/mysql", "/etc/haproxy", "/etc/hosts"} <= set(paths)
    assert users == ["foobar"]
