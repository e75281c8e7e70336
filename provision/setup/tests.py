"""scripts/test: the same set-up as scripts/up, then the tests, in groups.

  core        linters, types, unit and golden tests, live tests of the topology `distributed`
  topologies  live tests of the other topologies (simple, secured, scaled), changes between them
  drills      every drill: healthy, broken, wrong fix refused, solved, restored
  diagnosis   faults of every kind: detected, one root cause, repaired
  classroom   the board in a browser, classes of labs, limits, spares
  incus       labs and a class on a real Incus server and on a cluster of two members
  offline     a bundle on hosts without a network: set-up, topologies, operations
  vm          tests on virtual machines (Vagrant with libvirt and QEMU)

  scripts/test              core and topologies
  scripts/test --quick      core
  scripts/test --all        every group
  scripts/test --diagnosis  core, topologies and diagnosis
  scripts/test --vm         core, topologies and vm
  scripts/test --drills     core, topologies and drills
  scripts/test --classroom  core, topologies and classroom
  scripts/test --incus      core, topologies and incus
  scripts/test --offline    core, topologies and offline
  scripts/test --diagnosis --drills  several selections add up
  scripts/test ARGUMENTS    pytest with these arguments, such as `scripts/test -k haproxy`

Live tests need Linux containers: on macOS and Windows the core is linters, types, unit and golden
tests, and no other group runs.

With LAB_TEST_MINUTES=55, no group after core starts once 55 minutes have passed, the order of these
groups rotates with the commit, and so does the fifth of the drills that is tried; one line names
each group that was left out.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from provision.setup import (
    apt,
    bundled,
    host_os,
    options,
    packages,
    privileges,
    virtual_environment,
)
from provision.setup.console import ROOT, replace_process, say, start_log
from provision.setup.lock import setup_lock
from provision.setup.options import CORE, LONG_GROUPS, TestOptions

LOCKS = ("requirements-dev.lock", "requirements.lock")
"""The development lock contains everything of the other one."""

CORE_MARKERS = " and ".join(f"not {group}" for group in LONG_GROUPS)
WITHOUT_CONTAINERS = f"{CORE_MARKERS} and not live"
DRILL_SHARES = 5

IN_TWO_PROCESSES = ("-n", "2", "--dist", "loadscope", "--no-loadscope-reorder")


def main(arguments: Sequence[str]) -> int:
    """Run it; the result is the exit status.

    Raises:
        SetupError: when something cannot be installed.
    """
    started = time.monotonic()
    selected = options.parse_test(arguments)
    containers = options.runs_containers()
    _set_up(selected, containers=containers)
    if selected.arguments:
        say(" ".join(["pytest", *selected.arguments]))
        pytest = virtual_environment.program("pytest")
        return replace_process([pytest, *pytest_words(selected, containers=containers)])
    for name, words in LINTERS.items():
        say(name)
        status = _run(*words)
        if status:
            return status
    minutes = os.environ.get("LAB_TEST_MINUTES", "")
    head = ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", "HEAD"]
    commit = host_os.output_of(head).strip()
    if minutes:
        os.environ.update({**drill_share(commit), **os.environ})
    return run_groups(
        ordered(selected.groups if containers else (), minutes, commit),
        lambda group: run_group(group, containers=containers),
        lambda: int((time.monotonic() - started) / 60),
        int(minutes or 1000),
    )


LINTERS: Mapping[str, tuple[str, ...]] = {
    "ruff check": ("ruff", "check", "--quiet", "."),
    "ruff format --check": ("ruff", "format", "--check", "--quiet", "."),
    "mypy": ("mypy", "--no-error-summary"),
}


def _set_up(selected: TestOptions, *, containers: bool) -> None:
    if containers:
        privileges.require()
    with setup_lock() as keep:
        start_log()
        sources = bundled.sources(LOCKS[0])
        if containers:
            wanted = {**packages.RUN, **packages.TEST}
            apt.install(bundled.host_packages(wanted), sources)
            bundled.unpack_images(keep)
        virtual_environment.create(LOCKS, sources.pip, keep)
        if containers and "vm" in selected.groups:
            apt.install_virtual_machines()


def pytest_words(selected: TestOptions, *, containers: bool) -> list[str]:
    """The arguments of pytest, with a selection by markers unless the user gives one."""
    words = list(selected.arguments)
    if any(word == "-m" or word.startswith("-m=") for word in words):
        return words
    if not containers:
        return ["-m", "not live and not vm", *words]
    return ["-m", "live or not live" if "vm" in selected.groups else "not vm", *words]


def ordered(groups: Sequence[str], minutes: str, commit: str) -> list[str]:
    """The groups; under a limit of time, starting with another one for each commit.

    Args:
        minutes: the limit; empty for none.
    """
    if not minutes or len(groups) < 2:
        return list(groups)
    first = int(commit[:6] or "0", 16) % len(groups)
    return [*groups[first:], *groups[:first]]


def drill_share(commit: str) -> dict[str, str]:
    """The environment of the drills' tests under a limit of time: a fifth of them, and one seed."""
    number = int(commit[:6] or "0", 16)
    return {
        "LAB_DRILL_SHARE": f"{number % DRILL_SHARES}/{DRILL_SHARES}",
        "LAB_DRILL_SEEDS": str(1 + number // DRILL_SHARES % 2),
    }


def run_groups(
    groups: Sequence[str], run: Callable[[str], int], minutes: Callable[[], int], limit: int
) -> int:
    """Run the core and then the groups, every one also after a failure; 1 if one fails.

    Args:
        run: runs a group; its exit status is pytest's.
        minutes: since the start.
        limit: in minutes, after which no group starts.
    """
    say("group core, in two processes")
    failed = run(CORE) != 0
    for group in groups:
        passed = minutes()
        if passed >= limit:
            say(
                f"group {group} is left out: {passed} minutes have passed "
                "(scripts/test --all runs every group)"
            )
            continue
        say(f"group {group}, after {passed} minutes")
        failed |= run(group) != 0
    for group in LONG_GROUPS:
        if group not in groups:
            say(f"group {group} was not selected (scripts/test --all runs every group)")
    return int(failed)


def run_group(name: str, *, containers: bool) -> int:
    """Run one group of tests."""
    if name in ("vm", "classroom", "incus"):  # which need the host to themselves
        return _run("pytest", "-m", name)
    if name != CORE:
        return _run("pytest", *IN_TWO_PROCESSES, "-m", name)
    if not containers:
        say("live tests are left out: they need Linux containers")
        return _run("pytest", *IN_TWO_PROCESSES, "-m", WITHOUT_CONTAINERS)
    status = _run("pytest", *IN_TWO_PROCESSES, "-m", f"{CORE_MARKERS} and not alone")
    if status:
        return status
    say("core: tests that need the host to themselves")
    return _run("pytest", "-m", f"{CORE_MARKERS} and alone")


def _run(name: str, *words: str) -> int:
    """Run a program of .venv to its end, also when the terminal interrupts it."""
    sys.stdout.flush()
    process = subprocess.Popen([virtual_environment.program(name), *words], cwd=ROOT)
    try:
        return process.wait()
    except BaseException:
        process.wait()
        raise
