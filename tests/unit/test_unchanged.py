"""lab.up on a lab that is as it should be: one round trip per machine, and no second one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provision import checks, registry
from provision.checks import drift
from provision.checks.base import Check, CheckResult
from provision.checks.observation import Observation
from provision.commands import bring_up
from provision.core.endpoint import Endpoint
from provision.core.pool.pool import Pool
from provision.core.state import State
from provision.engine.check import Verdict
from provision.engine.fleet import Fleet
from provision.operations import early_login
from provision.operations import up as steps
from provision.operations.session import Session
from provision.topology import reference
from tests.unit.samples import context, observation

HERE = context("distributed")
TOPOLOGY = reference(HERE.lab.topology, HERE.lab.root)


def endpoint(address: str, host_key: str = "ssh-ed25519 A") -> Endpoint:
    return Endpoint(address, 22, "lab", Path("/key"), host_key)


class Provider:
    """A provider whose machines run."""

    name = "lxc"

    def __init__(self, problem: str = "") -> None:
        self.problem = problem

    def network_problem(self, lab: Any) -> str:
        return self.problem

    def endpoints(self, lab: Any) -> dict[str, Endpoint]:
        return {machine.name: endpoint(str(machine.address)) for machine in lab.machines}

    def state(self, lab: Any) -> dict[str, str]:
        return {machine.name: "running" for machine in lab.machines}


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The machines that were logged in to; nothing is sent."""
    names: list[str] = []
    monkeypatch.setattr(Fleet, "start", lambda fleet: names.extend(fleet.hosts))
    return names


@pytest.mark.parametrize(
    ("recorded", "problem", "logs_in"),
    [
        (State(topology=TOPOLOGY), "", True),
        (None, "", False),  # a new lab
        (State(topology="secured"), "", False),  # a change of topology
        (State(topology=TOPOLOGY, target=TOPOLOGY), "", False),  # an unfinished one
        (State(topology=TOPOLOGY), "the bridge is down", False),
    ],
)
def test_only_a_lab_that_has_its_topology_already_is_logged_in_to_early(
    recorded: State | None, problem: str, logs_in: bool, started: list[str]
) -> None:
    early_login.begin_login(HERE.lab, recorded, Provider(problem))  # type: ignore[arg-type]
    assert started == (["lb-01", "web-01", "web-02"] if logs_in else [])


def test_a_connection_is_used_only_for_the_same_machine(tmp_path: Path) -> None:
    before = {"lb-01": endpoint("10.0.0.10"), "web-01": endpoint("10.0.0.11")}
    after = {**before, "web-01": endpoint("10.0.0.11", "ssh-ed25519 B")}  # it was rebuilt
    pool = Pool(tmp_path)
    early, fleet = Fleet(HERE.lab, before), Fleet(HERE.lab, after, pool=pool)
    fleet.take_over(early)
    assert fleet.hosts["lb-01"].pool is pool  # its packages come through the controller
    assert fleet.hosts["lb-01"] is early.hosts["lb-01"]
    assert fleet.hosts["web-01"] is not early.hosts["web-01"]


def result(ok: bool) -> CheckResult:
    check = Check("site", "lb-01", "haproxy", "invoke lab.status", lambda _: Verdict(True, "", ""))
    return CheckResult(check, Verdict(ok, "up", "up" if ok else "down"))


@pytest.mark.parametrize(("ok", "same"), [(True, True), (True, False), (False, True)])
def test_a_lab_is_unchanged_when_no_plan_differs_and_no_check_fails(
    ok: bool, same: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = context("distributed", root=tmp_path)
    monkeypatch.setattr(steps, "observe", lambda *_: Observation({}))
    monkeypatch.setattr(checks, "judge", lambda *_: (result(ok),))
    monkeypatch.setattr(drift, "no_difference", lambda *_: same)
    monkeypatch.setattr(registry, "context", lambda *_, **__: here)
    fleet = Fleet(here.lab, Provider().endpoints(here.lab))
    session = Session(here.lab, here.state, Provider())  # type: ignore[arg-type]
    converged, judged, _ = steps.unchanged(session, fleet, lambda *_: None)
    if not (ok and same):
        assert (converged, judged) == (None, ())
        return
    assert converged is not None
    assert {outcome.machine for outcome in converged.outcomes} == set(fleet.hosts)
    assert all(not outcome.changed and outcome.resources for outcome in converged.outcomes)
    assert len(judged) == 1


def test_a_machine_without_results_is_no_unchanged_one() -> None:
    seen = observation()
    assert not drift.no_difference(HERE, Observation(seen.states, {}, {}))


@pytest.mark.parametrize("look_first", [True, False])
def test_an_unchanged_lab_is_neither_converged_nor_checked_again(
    look_first: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = context("distributed", root=tmp_path)
    called: list[str] = []

    def step(name: str, value: Any) -> Callable[..., Any]:
        def call(*_: Any) -> Any:
            called.append(name)
            return value

        return call

    done = steps.Converged(here, ())
    monkeypatch.setattr(steps, "has_served", lambda _: True)
    monkeypatch.setattr(steps, "record_served", lambda _: None)
    monkeypatch.setattr(
        steps, "unchanged", step("unchanged", (done, (result(True),), done.context))
    )
    monkeypatch.setattr(steps, "configure", step("configure", done))
    monkeypatch.setattr(steps, "check_until_ok", step("check", (result(True),)))
    session = Session(here.lab, here.state, Provider())  # type: ignore[arg-type]
    fleet = SimpleNamespace(hosts={})
    bring_up.configure(session, fleet, look_first=look_first)  # type: ignore[arg-type]
    assert called == (["unchanged"] if look_first else ["configure", "check"])
