"""What a command imports before it does its work: structure instead of seconds.

Imports are a third of a command that changes nothing. Those of roles, checks and large libraries
happen while the machines start their agents, so a task's module must not import them itself.
"""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from provision import checks
from provision.commands import namespace
from provision.core.lab import ROOT
from provision.engine.payload import MAIN, registrations
from tests.unit.samples import context

LIBRARIES = {"cryptography.x509", "fabric", "jinja2", "paramiko", "rich", "schemathesis"}
PACKAGES = {
    f"provision.{name}" for name in ("checks", "registry", "services", "database", "monitoring")
}
EARLY = ("lab.up", "lab.plan", "lab.status", "lab.check", "lab.list", "lab.doctor", "lab.destroy")
"""Tasks that begin to log in, or need no machine."""

SLOW_ON_MACHINES = {"asyncio", "email", "gzip", "http.client", "ssl", "tarfile", "urllib.request"}
"""Modules of the standard library that single probes import when they are collected."""

NEVER = {"schemathesis", "pytest", "hypothesis", "rich"}


REQUESTS = {"http.client", "http.server", "urllib.request", "urllib3", "gzip"}
"""What only a request to the site, or a download of a package, needs."""


def imported_by(*words: str, then: str = "") -> set[str]:
    """The modules that are loaded when a command line's tasks are known, and after more code."""
    code = f"import sys; sys.argv = {['invoke', *words]!r}; import tasks; {then}"
    code += "\nprint(*sys.modules)"
    argv = [sys.executable, "-c", code]
    return set(
        subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    )


@pytest.mark.parametrize("name", EARLY)
def test_a_task_imports_libraries_roles_and_checks_only_when_it_runs(name: str) -> None:
    assert imported_by(name) & (LIBRARIES | PACKAGES) == set()


def test_no_task_imports_a_library_of_the_tests_or_of_the_screen() -> None:
    assert imported_by() & NEVER == set()


def test_the_provider_imports_nothing_for_requests() -> None:
    """The package pool serves machines that are created; an unchanged lab needs none."""
    loaded = imported_by("lab.up", then="import provision.providers.lxc.provider")
    assert loaded & (REQUESTS | {"email", "html"}) == set()


def test_what_looks_at_a_lab_imports_nothing_for_requests() -> None:
    then = (
        "from provision.commands import observing; from provision import registry as r; r.roles()"
    )
    assert imported_by("lab.status", then=then) & REQUESTS == set()


def test_a_command_imports_only_its_own_module() -> None:
    modules = {f"provision.commands.{name}" for name in namespace.TASKS["lab"]}
    assert imported_by("lab.status") & modules == {"provision.commands.lab"}


def test_every_task_is_found_in_the_module_that_defines_it() -> None:
    loaded = {
        name: inspect.getmodule(inspect.unwrap(namespace.collection()[name].body))
        for name in namespace.task_names()
    }
    for name, module in loaded.items():
        assert module is not None
        assert namespace.requested([name]) == {module.__name__.rpartition(".")[2]}


def test_a_typing_error_in_a_task_imports_its_namespace() -> None:
    assert namespace.requested(["lab.statsu"]) == {*namespace.TASKS["lab"]}
    assert namespace.requested(["--list"]) == set()


@pytest.mark.parametrize("name", ["distributed", "secured", "scaled"])
def test_lab_status_asks_a_machine_only_for_what_it_shows(name: str) -> None:
    """All checks need some two hundred probes of a machine, and every file that the lab owns."""
    here = context(name)
    for machine in here.lab.machines:
        asked = list(checks.status_probes(here, machine))
        assert len(asked) <= 10
        assert {probe.kind for probe in asked} <= {
            "command",
            "mysql.comparison",
            "mysql.server",
            "service",
            "socket",
            "units-health",
        }
        assert all(probe in list(checks.probes(here, machine)) for probe in asked)


@pytest.mark.parametrize("machine", ["lb-01", "web-01", "web-02"])
def test_a_machine_imports_only_what_its_probes_need(machine: str) -> None:
    """At each connection, every machine compiles and imports these; two cores do all of it."""
    here = context("distributed")
    kinds = {probe.kind for probe in checks.probes(here, here.lab.machine(machine))}
    modules = {registrations()[f"collector {kind}"] for kind in kinds} | {MAIN}
    code = f"import {', '.join(sorted(modules))}, sys; print(*sys.modules)"
    argv = [sys.executable, "-S", "-c", code]
    run = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) & SLOW_ON_MACHINES == set()
