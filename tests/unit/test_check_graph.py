"""Root causes and consequences, on small graphs and on the checks of every topology."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provision import checks
from provision.checks import Check, CheckResult, Verdict
from provision.checks.graph import evaluate, root_causes, skipped_because, summary
from provision.checks.observation import Observation
from provision.commands.show_checks import check_values, counts
from tests.unit.samples import context

TOPOLOGIES = ("distributed", "simple", "secured", "scaled")

WORDS = ("ssh", "disk", "memory", "network", "system")
"""What a check may blame besides a systemd unit."""


def check(name: str, *requires: str, ok: bool = False, severity: str = "error") -> Check:
    """A check of ``MACHINE-SERVICE`` with a fixed verdict."""
    machine, _, service = name.partition("-")
    verdict = Verdict(ok, "good", "bad", severity=severity)  # type: ignore[arg-type]
    return Check(name, machine, service, f"invoke lab.logs {machine}", lambda _: verdict, requires)


def statuses(*listed: Check) -> dict[str, str]:
    return {r.check.name: r.status for r in evaluate(listed, Observation({}))}


def causes(*listed: Check) -> list[str]:
    return [c.result.check.name for c in root_causes(evaluate(listed, Observation({})))]


def test_a_failure_behind_a_failed_prerequisite_is_skipped() -> None:
    listed = (check("a-x"), check("b-x", "a-x"), check("c-x", "b-x", ok=True))
    assert statuses(*listed) == {"a-x": "failed", "b-x": "skipped", "c-x": "ok"}
    assert causes(*listed) == ["a-x"]


def test_an_exception_in_a_judge_is_a_failure_of_its_check() -> None:
    def broken(_: Observation) -> Verdict:
        raise KeyError("x")

    first, second = evaluate([replace(check("a-x"), judge=broken), check("b-x")], Observation({}))
    assert first.verdict == Verdict(False, "a verdict", "KeyError: 'x'")
    assert second.verdict.got == "bad"


def test_prerequisites_are_transitive_through_checks_that_pass() -> None:
    listed = (check("a-x"), check("b-x", "a-x", ok=True), check("c-x", "b-x"))
    assert statuses(*listed)["c-x"] == "skipped"


def test_a_warning_is_neither_a_failure_nor_a_cause() -> None:
    listed = (check("a-x", severity="warning"), check("b-x", "a-x"))
    assert statuses(*listed) == {"a-x": "warning", "b-x": "failed"}
    assert all(r.ok is (r.status == "warning") for r in evaluate(listed, Observation({})))


def test_names_that_do_not_exist_are_ignored_and_a_star_matches_any_rest() -> None:
    assert statuses(check("a-x", "none"))["a-x"] == "failed"
    assert statuses(check("a-x"), check("a-y"), check("b-x", "a-*"))["b-x"] == "skipped"


def test_of_two_checks_that_require_each_other_the_first_is_the_cause() -> None:
    assert causes(check("a-x", "b-x"), check("b-x", "a-x")) == ["a-x"]


def test_failures_of_one_service_are_one_cause() -> None:
    first, second = check("a-x"), replace(check("a-x"), name="a-x2")
    (cause,) = root_causes(evaluate([first, second, check("b-x", "a-x2")], Observation({})))
    assert [r.check.name for r in cause.also] == ["a-x2"]
    assert [r.check.name for r in cause.dependants] == ["b-x"]


def test_the_summary_names_cause_dependants_and_one_command() -> None:
    stopped = Verdict(False, "active", "inactive", cause="nginx is stopped")
    nginx = Check("n", "web-01", "nginx", "invoke lab.up", lambda _: stopped)
    results = evaluate([nginx, check("b-x", "n"), check("c-x", "n")], Observation({}))
    assert summary(results) == (
        "root cause: web-01: nginx is stopped (2 checks depend on it)",
        "next: invoke lab.up",
    )
    assert skipped_because(results[1], results) == "depends on web-01 nginx"
    assert counts(results) == "0 of 3 checks passed: 1 failed, 2 skipped"
    causes = [entry["root_cause"] for entry in check_values(results)["checks"]]
    assert causes == ["web-01: nginx is stopped", "", ""]
    assert summary(evaluate([nginx], Observation({})))[0] == "root cause: web-01: nginx is stopped"
    one = evaluate([nginx, check("b-x", "n")], Observation({}))
    assert summary(one)[0].endswith("(1 check depends on it)")


def test_the_hint_of_a_verdict_replaces_the_check_s() -> None:
    verdict = Verdict(False, "good", "bad", hint="invoke db.rejoin web-02")
    listed = Check("a", "web-02", "mysql", "invoke db.status", lambda _: verdict)
    (result,) = evaluate([listed], Observation({}))
    assert check_values([result])["checks"][0]["next"] == "invoke db.rejoin web-02"


# --- the checks of every topology ----------------------------------------------------------------


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_blamed_service_exists_on_the_blamed_machine(topology: str) -> None:
    here = context(topology, autopromote=topology == "scaled")
    for listed in checks.checks(here):
        machine = here.lab.machine(listed.machine)
        units = {
            resource.unit.partition(".")[0]
            for unit in here.desired(machine)
            for resource in unit.resources
            if hasattr(resource, "unit") and getattr(resource, "running", False)
        }
        units |= {
            resource.unit
            for unit in here.desired(machine)
            for resource in unit.resources
            if hasattr(resource, "unit")
        }
        units |= {service.partition(".")[0] for service in here.services(machine)}
        assert listed.service in {*units, *WORDS}, listed.name


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_no_check_is_its_own_prerequisite(topology: str) -> None:
    listed = checks.checks(context(topology, autopromote=topology == "scaled"))
    failing = [replace(c, judge=lambda _: Verdict(False, "good", "bad")) for c in listed]
    results = evaluate(failing, Observation({}))
    # Without cycles, the machines explain all failures if everything fails.
    roots = {r.check.name for r in results if r.status == "failed"}
    assert {name.partition("/")[0] for name in roots} <= {"machine", "address"}


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_halted_machine_is_the_only_root_cause(topology: str) -> None:
    here = context(topology, autopromote=topology == "scaled")
    listed = checks.checks(here)
    for machine in here.lab.machines:
        failing = [replace(c, judge=_fails_behind(c, machine.name, listed)) for c in listed]
        causes = root_causes(evaluate(failing, Observation({})))
        assert [cause.result.check.machine for cause in causes] == [machine.name]


def _fails_behind(check: Check, machine: str, listed: tuple[Check, ...]):  # type: ignore[no-untyped-def]
    """Fail the checks of the machine and those that depend on it; pass the rest."""
    failed = check.machine == machine
    return lambda _: Verdict(not failed, "good", "bad")


def test_results_are_plain_values() -> None:
    verdict = Verdict(False, "good", "bad", detail="line", severity="warning", cause="c")
    shown = check_values([CheckResult(check("a-x"), verdict, ("b",))])
    assert shown["counts"] == {"ok": 0, "warning": 1, "failed": 0, "skipped": 0}
    (values,) = shown["checks"]
    assert values["status"] == "warning"
    assert values["blocked_by"] == ["b"]
    assert values["detail"] == "line"
