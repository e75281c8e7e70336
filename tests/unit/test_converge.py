"""Converging several machines: order, waiting, failure and interruption, without real machines.

The machines here are objects that respond like an agent; test_agent covers the agent itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import pytest

from provision.core.errors import HostError, LabError
from provision.core.parallel import in_parallel
from provision.engine import converge as module
from provision.engine.agent.files import LoadedFacts, PathFacts
from provision.engine.agent.packages import PackageVersions
from provision.engine.agent.protocol import Probe, ProbeResponse, Results, UnitRequest, UnitResponse
from provision.engine.apply import UnreadableError
from provision.engine.converge import Outcome, Stopped, converge
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.engine.plan import Unit
from provision.engine.resources import File, Packages
from tests.unit.samples import context

Calls = list[tuple[str, str]]


class Machine:
    """Responds like an agent: nothing exists, and every unit succeeds unless `on_unit` decides."""

    def __init__(self, name: str, calls: Calls) -> None:
        self.name = name
        self.calls = calls
        self.round_trips = 0
        self.copies: tuple[str, ...] = ()
        self.pool = None
        self.logged: list[str] = []
        self.on_unit: Callable[[str], UnitResponse | None] = lambda _name: None
        self.path = PathFacts("absent")

    def log(self, text: str) -> None:
        self.logged.append(text)

    def gather(self, probes: Iterable[Probe[Any]], _timeout: float = 60.0) -> Results:
        self.round_trips += 1
        self.calls.append((self.name, "gather"))
        values: dict[str, Any] = {}
        for probe in probes:
            if probe.result is PathFacts:
                values[probe.name] = self.path
            elif probe.result is PackageVersions:
                values[probe.name] = PackageVersions(dict.fromkeys(probe.args["names"], ""))
            else:
                values[probe.name] = LoadedFacts("")
        return Results.of(self.name, values)

    def apply(self, request: UnitRequest, _timeout: float) -> UnitResponse:
        self.round_trips += 1
        first = request.actions[0]
        name = first.args.get("path", first.do).rpartition("/")[2]
        self.calls.append((self.name, name))
        return self.on_unit(name) or UnitResponse(True)


def unit(name: str, *needs: str) -> Unit:
    return Unit(name, (File(f"/etc/{name}", name),), needs=needs)


def _wait(event: threading.Event) -> None:
    event.wait(5)


class Lab:
    """Two machines with units, and what was done in which order."""

    def __init__(self, units: Mapping[str, tuple[Unit, ...]]) -> None:
        self.calls: Calls = []
        self.reported: list[tuple[str, str]] = []
        self.machines = {name: Machine(name, self.calls) for name in units}
        self.units = units
        hosts = cast("dict[str, Host]", self.machines)
        self.fleet = Fleet(context().lab, {}, hosts=hosts)
        self.fleet.report = lambda name, text: self.reported.append((name, text))

    def run(self) -> dict[str, Outcome]:
        return converge(self.fleet, self.units)

    def order(self, *wanted: str) -> list[str]:
        return [name for _, name in self.calls if name in wanted]


def test_units_are_applied_in_order_and_logged() -> None:
    lab = Lab({"web-01": (unit("a"), unit("b"))})
    outcome = lab.run()["web-01"]
    assert outcome.changed == ("file /etc/a", "file /etc/b")
    assert (outcome.resources, outcome.round_trips, outcome.error) == (2, 3, None)
    assert lab.calls == [("web-01", "gather"), ("web-01", "a"), ("web-01", "b")]
    assert lab.machines["web-01"].logged == [
        "reading its state",
        "configuring a",
        "configuring b",
        "2 changed",
    ]


def test_without_changes_there_is_one_round_trip() -> None:
    lab = Lab({"web-01": (unit("a", "web-02/b"),), "web-02": (unit("b"),)})
    for name, machine in lab.machines.items():
        text = {"web-01": "a", "web-02": "b"}[name]
        machine.path = PathFacts("file", "root", "root", "0644", content=text)
    outcomes = lab.run()
    assert all(o.changed == () and o.round_trips == 1 for o in outcomes.values())
    assert lab.machines["web-01"].logged[-1] == "unchanged"


def test_a_unit_waits_for_the_units_it_needs() -> None:
    lab = Lab({"web-01": (unit("a", "web-02/b"),), "web-02": (unit("b"),)})
    ready = threading.Event()
    lab.machines["web-02"].on_unit = lambda _name: _wait(ready)
    lab.machines["web-01"].log = (  # type: ignore[method-assign]
        lambda text: ready.set() if text == "waiting for web-02/b" else None
    )
    lab.run()
    assert lab.order("a", "b") == ["b", "a"]


def test_a_unit_that_needs_a_failed_one_is_skipped() -> None:
    units = {
        "web-01": (unit("a", "web-02/b"), unit("after")),
        "web-02": (unit("b"), unit("c")),
        "lb-01": (unit("free"),),
    }
    lab = Lab(units)
    lab.machines["web-02"].on_unit = lambda _name: UnitResponse(
        False,
        step="validate",
        error="x refuses the new configuration",
        output="line 7",
        restored=("/etc/b",),
    )
    outcomes = lab.run()
    assert outcomes["lb-01"].error is None
    assert lab.order("a", "after", "c") == []
    failed = str(outcomes["web-02"].error)
    assert failed.splitlines()[0] == (
        "web-02: b failed at step 'validate': x refuses the new configuration"
    )
    assert "rolled back: /etc/b" in failed
    assert "  | line 7" in failed
    assert "next: fix the cause, then\n      invoke lab.up" in failed
    assert str(outcomes["web-01"].error) == "web-01: a was skipped, since web-02/b failed"
    assert lab.machines["web-01"].logged[-1] == "failed"


def test_a_lost_connection_fails_one_machine_only() -> None:
    lab = Lab({"web-01": (unit("a"),), "web-02": (unit("b"),)})

    def lost(_name: str) -> None:
        raise HostError("web-02: the machine stopped responding", "invoke lab.status")

    lab.machines["web-02"].on_unit = lost
    outcomes = lab.run()
    assert outcomes["web-01"].error is None
    assert "stopped responding" in str(outcomes["web-02"].error)


def test_a_dependency_on_a_stopped_machine_is_ignored() -> None:
    lab = Lab({"web-01": (unit("a", "web-02/b"),)})
    assert lab.run()["web-01"].error is None


def test_a_unit_that_stays_unreadable_fails_after_one_wait_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "READABLE_SECONDS", 0.1)
    lab = Lab({"web-01": (unit("a"), unit("b"))})
    reason = "MySQL error 2013: Lost connection to MySQL server during query (timed out)"

    def gather(probes: Iterable[Probe[Any]], _timeout: float = 60.0) -> Results:
        lab.calls.append(("web-01", "gather"))
        return Results("web-01", {probe.name: ProbeResponse(error=reason) for probe in probes})

    lab.machines["web-01"].gather = gather  # type: ignore[method-assign]
    outcome = lab.run()["web-01"]
    assert isinstance(outcome.error, UnreadableError)
    assert outcome.error.what == f"web-01: file /etc/a is not readable: {reason}"
    assert outcome.error.hint.startswith("invoke lab.check names the root cause; ")
    assert lab.calls == [("web-01", "gather")] * 3  # the plan, then until the deadline and after it


def test_state_is_read_again_after_packages() -> None:
    packages = Unit("packages", (Packages(("nginx",)),))
    lab = Lab({"web-01": (packages, unit("a"))})
    assert lab.run()["web-01"].round_trips == 4
    assert [name for _, name in lab.calls] == ["gather", "packages", "gather", "a"]


def test_ownership_is_judged_after_what_the_other_units_have_changed() -> None:
    lab = Lab({"web-01": (unit("a"), unit("ownership"))})
    lab.run()
    assert [name for _, name in lab.calls] == ["gather", "a", "gather", "ownership"]


def test_ctrl_c_waits_for_the_current_unit_of_every_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab = Lab({"web-01": (unit("a"), unit("b")), "web-02": (unit("c", "web-01/b"),)})
    stopped = threading.Event()
    lab.machines["web-01"].on_unit = lambda _name: _wait(stopped)

    def report(machine: str, doing: str) -> None:
        lab.reported.append((machine, doing))
        stopped.set()

    lab.fleet.report = report

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lab.run()
    assert lab.order("a", "b", "c") == ["a"]
    assert {text for _, text in lab.reported} == {"finishing its step, then stopping"}
    assert lab.machines["web-01"].logged[-1] == "stopped"
    assert lab.machines["web-02"].logged[-1] == "stopped"


def test_an_interrupted_run_suggests_how_to_continue() -> None:
    assert str(Stopped()) == (
        "stopped before the next step\nnext: invoke lab.up    # continues from here"
    )


def test_all_errors_are_reported() -> None:
    def fail(text: str) -> Callable[[], None]:
        def work() -> None:
            raise LabError(text, "do this")

        return work

    with pytest.raises(LabError) as one:
        in_parallel({"a": fail("a is wrong")})
    assert one.value.hint == "do this"
    with pytest.raises(LabError) as both:
        in_parallel({"a": fail("a is wrong"), "b": fail("b is wrong")})
    assert str(both.value) == "a is wrong\nnext: do this\nb is wrong\nnext: do this"
    assert in_parallel({}) == {}
