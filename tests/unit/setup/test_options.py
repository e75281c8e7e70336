"""The options of scripts/up and scripts/test, the order of the groups, and the layout of .venv."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from provision.core.lab import ROOT
from provision.setup import apt, choice, options, tests, virtual_environment
from provision.setup.options import LONG_GROUPS, TestOptions, parse_test, provider_of
from provision.setup.tests import drill_share, ordered, pytest_words, run_groups


@pytest.mark.parametrize(
    ("arguments", "environ", "provider"),
    [
        (("--provider", "ssh"), {}, "ssh"),
        (("--provider=vagrant", "--provider", "ssh"), {}, "vagrant"),
        ((), {"LAB_PROVIDER": "ssh"}, "ssh"),
        (("--provider", "lxc"), {"LAB_PROVIDER": "ssh"}, "lxc"),
        (("--topology", "simple", "--provider"), {"LAB_PROVIDER": "ssh"}, "ssh"),
        ((), {"LAB_PROVIDER": ""}, "lxc"),
    ],
)
def test_the_provider_of_an_up(
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    environ: dict[str, str],
    provider: str,
) -> None:
    monkeypatch.setattr(choice, "detect", lambda environ: choice.HostCapabilities())
    assert provider_of(arguments, environ) == provider
    assert options.parse_up(arguments, environ).arguments == arguments


@pytest.mark.parametrize(
    ("arguments", "groups", "others"),
    [
        ((), ("topologies",), ()),
        (("--quick",), (), ()),
        (("--all",), LONG_GROUPS, ()),
        (("--vm", "--drills"), ("topologies", "drills", "vm"), ()),
        (("--incus",), ("topologies", "incus"), ()),
        (("-k", "x", "--quick"), (), ("-k", "x")),
        (("tests/unit", "--collect-only"), ("topologies",), ("tests/unit", "--collect-only")),
    ],
)
def test_groups_and_arguments_of_a_test_run(
    arguments: tuple[str, ...], groups: tuple[str, ...], others: tuple[str, ...]
) -> None:
    assert parse_test(arguments) == TestOptions(groups, others)


def test_pytest_gets_a_selection_unless_the_user_gives_one() -> None:
    plain, vm = TestOptions((), ("-k", "x")), TestOptions(("topologies", "vm"), ("-k", "x"))
    own = TestOptions((), ("-m", "live"))
    assert pytest_words(plain, containers=True) == ["-m", "not vm", "-k", "x"]
    assert pytest_words(vm, containers=True) == ["-m", "live or not live", "-k", "x"]
    assert pytest_words(own, containers=True) == ["-m", "live"]
    assert pytest_words(plain, containers=False) == ["-m", "not live and not vm", "-k", "x"]


def test_the_order_of_groups_rotates_with_the_commit_under_a_limit_only() -> None:
    assert ordered(LONG_GROUPS, "", "000001") == list(LONG_GROUPS)
    first = [
        ordered(LONG_GROUPS, "55", f"{number:06x}ffff")[0] for number in range(len(LONG_GROUPS))
    ]
    assert first == list(LONG_GROUPS)
    assert ordered(LONG_GROUPS, "55", "") == list(LONG_GROUPS)
    assert ordered(("vm",), "55", "000001") == ["vm"]
    assert sorted(ordered(LONG_GROUPS, "55", "00000300")) == sorted(LONG_GROUPS)


def test_every_drill_is_in_a_share() -> None:
    shares = [drill_share(f"{number:06x}ffff") for number in range(10)]
    assert {share["LAB_DRILL_SHARE"] for share in shares} == {f"{n}/5" for n in range(5)}
    assert len({tuple(share.values()) for share in shares}) == 10  # with both seeds
    assert drill_share("") == {"LAB_DRILL_SHARE": "0/5", "LAB_DRILL_SEEDS": "1"}


def test_every_group_runs_after_a_failure_and_none_after_the_limit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran: list[str] = []

    def run(name: str) -> int:
        ran.append(name)
        return 1 if name == "core" else 0

    clock = iter((10, 55))
    assert run_groups(("drills", "topologies"), run, lambda: next(clock), 55) == 1
    assert ran == ["core", "drills"]
    assert capsys.readouterr().out.splitlines() == [
        "== group core, in two processes",
        "== group drills, after 10 minutes",
        "== group topologies is left out: 55 minutes have passed "
        "(scripts/test --all runs every group)",
        "== group diagnosis was not selected (scripts/test --all runs every group)",
        "== group classroom was not selected (scripts/test --all runs every group)",
        "== group incus was not selected (scripts/test --all runs every group)",
        "== group offline was not selected (scripts/test --all runs every group)",
        "== group vm was not selected (scripts/test --all runs every group)",
    ]
    assert run_groups((), lambda name: 0, lambda: 0, 1000) == 0


def test_without_containers_the_core_has_no_live_tests(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[str, ...]] = []

    def run(*words: str) -> int:
        calls.append(words)
        return 0

    monkeypatch.setattr(tests, "_run", run)
    tests.run_group("core", containers=False)
    assert calls[0][-1] == tests.WITHOUT_CONTAINERS
    assert "live tests are left out" in capsys.readouterr().out
    tests.run_group("core", containers=True)
    assert [call[-1] for call in calls[1:]] == [
        f"{tests.CORE_MARKERS} and not alone",
        f"{tests.CORE_MARKERS} and alone",
    ]


@pytest.mark.parametrize("name", ["vm", "classroom", "incus"])
def test_groups_that_need_the_host_to_themselves_run_in_one_process(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    calls: list[tuple[str, ...]] = []

    def run(*words: str) -> int:
        calls.append(words)
        return 0

    monkeypatch.setattr(tests, "_run", run)
    tests.run_group(name, containers=True)
    assert calls == [("pytest", "-m", name)]


def test_continuous_integration_leaves_out_incus() -> None:
    (line,) = [
        line
        for line in (ROOT / ".ci" / "run").read_text().splitlines()
        if line.startswith("[ $# -gt 0 ] || set --")
    ]
    groups = parse_test(line.partition("set -- ")[2].split()).groups
    assert groups == ("topologies", "diagnosis", "drills", "classroom")


def test_groups_are_the_markers_of_pytest() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for name in (*LONG_GROUPS, "alone", "live"):
        assert f'  "{name}: ' in text


@pytest.mark.parametrize(
    ("platform", "path"),
    [("linux", "bin/invoke"), ("darwin", "bin/invoke"), ("win32", "Scripts/invoke.exe")],
)
def test_the_programs_of_an_environment(
    monkeypatch: pytest.MonkeyPatch, platform: str, path: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert virtual_environment.program("invoke", Path("/x/.venv")) == Path("/x/.venv", path)


def test_an_environment_is_current_with_the_same_lock_and_the_demanded_python() -> None:
    stamp = "python /usr/bin/python3\naaa\nbbb\n"
    assert virtual_environment.is_current(stamp, "bbb", "")
    assert virtual_environment.is_current(stamp, "aaa", "/usr/bin/python3")
    assert not virtual_environment.is_current(stamp, "ccc", "")
    assert not virtual_environment.is_current(stamp, "aaa", "/usr/bin/python3.13")


def test_packages_that_are_not_installed() -> None:
    listing = "lxc installed\nuidmap config-files\ngpgv not-installed\n"
    assert apt.parse_status(listing, ["lxc", "uidmap", "gpgv", "nft"]) == ["uidmap", "gpgv", "nft"]
