"""Converging several machines: order, waiting, failure, and being told to stop. No machine is real.

The machines here are objects that answer as an agent does; what runs on them is in test_agent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from provision.core.endpoint import Endpoint
from provision.core.errors import HostError, LabError
from provision.engine import converge as module
from provision.engine.context import Context
from provision.engine.converge import Outcome, Stopped, converge
from provision.engine.fleet import Fleet, in_parallel
from provision.engine.host import Host
from provision.engine.plan import Unit
from provision.engine.resources import File, Packages
from tests.unit.samples import context

Calls = list[tuple[str, str]]
ENDPOINT = Endpoint("127.0.0.1", 22, "root", Path("/none"), "ssh-ed25519 none")


class Machine:
    """Answers as a machine's agent: nothing is there, and every unit goes well, unless told."""

    def __init__(self, name: str, calls: Calls) -> None:
        self.name = name
        self.calls = calls
        self.round_trips = 0
        self.said: list[str] = []
        self.on_unit: Callable[[str], Any] = lambda _name: None
        self.path: dict[str, Any] = {"type": "absent"}

    def say(self, text: str) -> None:
        self.said.append(text)

    def gather(self, probes: Mapping[str, list[Any]]) -> dict[str, Any]:
        self.round_trips += 1
        self.calls.append((self.name, "gather"))
        packages = [dict.fromkeys(each["names"], "") for each in probes.get("package", [])]
        return {
            "path": [self.path for _ in probes.get("path", [])],
            "stamp": [{"fingerprint": ""} for _ in probes.get("stamp", [])],
            "package": packages,
        }

    def call(self, _operation: str, request: Mapping[str, Any], _timeout: float) -> Any:
        self.round_trips += 1
        first = request["actions"][0]
        name = first.get("path", first["do"]).rpartition("/")[2]
        self.calls.append((self.name, name))
        answer = self.on_unit(name)
        return answer or {"ok": True, "activated": ""}


def unit(name: str, *needs: str) -> Unit:
    return Unit(name, (File(f"/etc/{name}", name),), needs=needs)


class Lab:
    """Two machines with units, and what was done in which order."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, units: Mapping[str, tuple[Unit, ...]]
    ) -> None:
        self.calls: Calls = []
        self.reported: list[tuple[str, str]] = []
        self.machines = {name: Machine(name, self.calls) for name in units}
        monkeypatch.setattr(module, "desired", lambda _context, machine: units[machine.name])
        self.context: Context = context()
        hosts = cast("dict[str, Host]", self.machines)
        self.fleet = Fleet(self.context.lab, {}, hosts=hosts)
        self.fleet.report = lambda name, text: self.reported.append((name, text))

    def run(self) -> dict[str, Outcome]:
        return converge(self.context, self.fleet)

    def order(self, *wanted: str) -> list[str]:
        return [name for _, name in self.calls if name in wanted]


def test_units_are_applied_in_order_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(monkeypatch, {"web-01": (unit("a"), unit("b"))})
    outcome = lab.run()["web-01"]
    assert outcome.changed == ("file /etc/a", "file /etc/b")
    assert (outcome.resources, outcome.round_trips, outcome.error) == (2, 3, None)
    assert lab.calls == [("web-01", "gather"), ("web-01", "a"), ("web-01", "b")]
    assert lab.machines["web-01"].said == [
        "reading its state",
        "configuring a",
        "configuring b",
        "2 changed",
    ]


def test_nothing_to_do_is_one_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(monkeypatch, {"web-01": (unit("a", "web-02/b"),), "web-02": (unit("b"),)})
    for name, machine in lab.machines.items():
        text = {"web-01": "a", "web-02": "b"}[name]
        machine.path = {
            "type": "file",
            "owner": "root",
            "group": "root",
            "mode": "0644",
            "digest": "",
            "content": text,
        }
    outcomes = lab.run()
    assert all(o.changed == () and o.round_trips == 1 for o in outcomes.values())
    assert lab.machines["web-01"].said[-1] == "unchanged"


def test_a_unit_waits_for_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(monkeypatch, {"web-01": (unit("a", "web-02/b"),), "web-02": (unit("b"),)})
    ready = threading.Event()
    lab.machines["web-02"].on_unit = lambda _name: ready.wait(5) and None
    lab.machines["web-01"].say = (  # type: ignore[method-assign]
        lambda text: ready.set() if text == "waiting for web-02/b" else None
    )
    lab.run()
    assert lab.order("a", "b") == ["b", "a"]


def test_what_needs_a_failed_unit_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    units = {
        "web-01": (unit("a", "web-02/b"), unit("after")),
        "web-02": (unit("b"), unit("c")),
        "lb-01": (unit("free"),),
    }
    lab = Lab(monkeypatch, units)
    lab.machines["web-02"].on_unit = lambda _name: {
        "ok": False,
        "step": "validate",
        "error": "x refuses the new configuration",
        "output": "line 7",
        "restored": ["/etc/b"],
        "after": "",
    }
    outcomes = lab.run()
    assert outcomes["lb-01"].error is None
    assert lab.order("a", "after", "c") == []
    failed = str(outcomes["web-02"].error)
    assert failed.splitlines()[0] == (
        "web-02: b failed at step 'validate': x refuses the new configuration"
    )
    assert "put back: /etc/b" in failed
    assert "  | line 7" in failed
    assert "next: mend what it says, then invoke lab.up again" in failed
    assert str(outcomes["web-01"].error) == "web-01: a was not begun, since web-02/b failed"
    assert lab.machines["web-01"].said[-1] == "failed"


def test_a_machine_that_is_lost_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(monkeypatch, {"web-01": (unit("a"),), "web-02": (unit("b"),)})

    def lost(_name: str) -> None:
        raise HostError("web-02: the machine stopped answering", "invoke lab.status")

    lab.machines["web-02"].on_unit = lost
    outcomes = lab.run()
    assert outcomes["web-01"].error is None
    assert "stopped answering" in str(outcomes["web-02"].error)


def test_a_need_of_a_machine_that_does_not_run_is_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(monkeypatch, {"web-01": (unit("a", "web-02/b"),)})
    assert lab.run()["web-01"].error is None


def test_packages_are_news_for_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = Unit("packages", (Packages(("nginx",)),))
    lab = Lab(monkeypatch, {"web-01": (packages, unit("a"))})
    assert lab.run()["web-01"].round_trips == 4
    assert [name for _, name in lab.calls] == ["gather", "packages", "gather", "a"]


def test_ctrl_c_lets_every_machine_end_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(monkeypatch, {"web-01": (unit("a"), unit("b")), "web-02": (unit("c", "web-01/b"),)})
    stopped = threading.Event()
    lab.machines["web-01"].on_unit = lambda _name: stopped.wait(5) and None

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
    assert lab.machines["web-01"].said[-1] == "stopped"
    assert lab.machines["web-02"].said[-1] == "stopped"


def test_stopping_says_how_to_go_on() -> None:
    assert str(Stopped()) == "stopped before the next step\nnext: invoke lab.up goes on from here"


def test_every_error_is_told_not_only_the_first() -> None:
    def fail(text: str) -> Callable[[], None]:
        def work() -> None:
            raise LabError(text, "do this")

        return work

    with pytest.raises(LabError) as one:
        in_parallel({"a": fail("a is wrong")})
    assert one.value.advice == "do this"
    with pytest.raises(LabError) as both:
        in_parallel({"a": fail("a is wrong"), "b": fail("b is wrong")})
    assert str(both.value) == "a is wrong\nnext: do this\nb is wrong\nnext: do this"
    assert in_parallel({}) == {}
