"""From desired to actual: gather, plan and apply on all machines at once, each in its own thread.

Units of one machine are applied in order. A unit that needs one of another machine waits for it;
when that one failed, it is not begun. A controller that is stopped leaves whole units behind: the
next run goes on from there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from provision.core.errors import LabError
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.engine.plan import Plan, Unit, UnitPlan, plan, questions
from provision.registry import desired

UNIT_TIMEOUT = 1200.0
"""Seconds without a word from a machine that applies a unit (a slow mirror, a large clone)."""


TAKEN_BACK = 30.0
"""Seconds in which a machine has taken back what was not confirmed, and answers."""


@dataclass(frozen=True)
class Outcome:
    """What a run did to one machine.

    Args:
        machine: its name.
        changed: the names of the resources that were changed, and of units that were reloaded.
        resources: how many were looked at.
        seconds: from first question to last answer.
        round_trips: requests that the machine answered.
        error: why it was not finished, or None.
    """

    machine: str
    changed: tuple[str, ...]
    resources: int
    seconds: float
    round_trips: int
    error: LabError | None = None


@dataclass
class _Board:
    """Which units are done, for those that wait for them; and whether everyone shall stop."""

    done: dict[str, threading.Event] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    stop: threading.Event = field(default_factory=threading.Event)

    def add(self, machine: str, units: tuple[Unit, ...]) -> None:
        for unit in units:
            self.done[f"{machine}/{unit.name}"] = threading.Event()

    def finish(self, machine: str, unit: str, ok: bool) -> None:
        name = f"{machine}/{unit}"
        if not ok:
            self.failed.add(name)
        self.done[name].set()

    def wait(self, name: str, what: str) -> None:
        """Wait for another machine's unit.

        Args:
            name: of that unit, such as ``web-01/mysql``.
            what: waits for it, for the message.

        Raises:
            LabError: when it failed, or the run is being stopped.
        """
        event = self.done.get(name)
        while event is not None and not event.wait(0.1):
            if self.stop.is_set():
                raise Stopped
        if name in self.failed:
            if self.stop.is_set():
                raise Stopped
            raise LabError(f"{what} was not begun, since {name} failed")


class Stopped(LabError):  # noqa: N818 (an outcome, not a fault)
    """The run was told to stop between two units."""

    def __init__(self) -> None:
        super().__init__("stopped before the next step", "invoke lab.up goes on from here")


def plans(context: Context, fleet: Fleet) -> dict[str, Plan]:
    """What every running machine needs, without changing anything: one round trip a machine."""

    def one(host: Host) -> Plan:
        units = desired(context, context.lab.machine(host.name))
        return plan(host.name, units, host.gather(questions(units).asked))

    return fleet.each(one)


def converge(context: Context, fleet: Fleet) -> dict[str, Outcome]:
    """Make every running machine what it should be.

    Args:
        context: what is desired.
        fleet: the machines.

    Returns:
        An outcome a machine; look at ``error`` before calling it a success.

    Raises:
        KeyboardInterrupt: after every machine has finished the unit that it was in.
    """
    board = _Board()
    units = {name: desired(context, context.lab.machine(name)) for name in fleet.hosts}
    for name, each in units.items():
        board.add(name, each)

    with ThreadPoolExecutor(max_workers=max(1, len(units))) as pool:
        try:
            futures = {
                name: pool.submit(_machine, fleet.hosts[name], units[name], board) for name in units
            }
            while wait(futures.values(), timeout=0.2).not_done:
                pass
        except KeyboardInterrupt:
            board.stop.set()
            for name in units:
                fleet.report(name, "finishing its step, then stopping")
            raise
        return {name: future.result() for name, future in futures.items()}


def _machine(host: Host, units: tuple[Unit, ...], board: _Board) -> Outcome:
    """Gather, plan and apply on one machine."""
    started, trips = time.monotonic(), host.round_trips
    changed: list[str] = []
    error: LabError | None = None
    remaining = list(units)
    try:
        host.say("reading its state")
        planned = _look(host, remaining)
        while remaining:
            unit = remaining.pop(0)
            unit_plan = planned.pop(0)
            if board.stop.is_set():
                raise Stopped
            if not unit_plan.empty:
                for name in unit.needs:
                    if name in board.done and not board.done[name].is_set():
                        host.say(f"waiting for {name}")
                    board.wait(name, f"{host.name}: {unit.name}")
                changed += _apply(host, unit_plan)
                if unit.name == "packages" and remaining:
                    # What packages bring along (files, users, services) is news for the rest.
                    host.say("reading its state")
                    planned = _look(host, remaining)
            board.finish(host.name, unit.name, True)
    except LabError as caught:
        error = caught
    finally:
        for unit in units:
            if not board.done[f"{host.name}/{unit.name}"].is_set():
                board.finish(host.name, unit.name, False)
    host.say(_summary(changed, error))
    count = sum(len(u.resources) for u in units)
    seconds = time.monotonic() - started
    return Outcome(host.name, tuple(changed), count, seconds, host.round_trips - trips, error)


def _summary(changed: list[str], error: LabError | None) -> str:
    if error is not None:
        return "stopped" if isinstance(error, Stopped) else "failed"
    return f"{len(changed)} changed" if changed else "unchanged"


def _look(host: Host, units: list[Unit]) -> list[UnitPlan]:
    answers: Mapping[str, Any] = host.gather(questions(units).asked)
    return list(plan(host.name, units, answers).units)


def _apply(host: Host, planned: UnitPlan) -> list[str]:
    """Apply one unit on its machine.

    Raises:
        LabError: which step failed, what was said, and what the machine runs now.
    """
    unit = planned.unit
    host.say(f"configuring {unit.name}")
    answer = host.call("unit", planned.request(), UNIT_TIMEOUT)
    if answer["ok"]:
        if unit.confirm and planned.changes:
            _confirm(host, unit)
        names = [change.resource.name for change in planned.changes]
        if answer["activated"] and not names:
            names = [f"{answer['activated']} {unit.service}"]
        return names
    raise LabError(
        f"{host.name}: {unit.name} failed at step {answer['step']!r}: {answer['error']}\n"
        + _aftermath(unit, answer),
        "mend what it says, then invoke lab.up again; "
        f"invoke lab.ssh {host.name} to look around there",
        output=answer["output"],
    )


def _confirm(host: Host, unit: Unit) -> None:
    """Confirm a change from outside: that a new connection can be made is what is confirmed.

    Raises:
        LabError: when none can; the machine takes the change back by itself then.
    """
    host.say(f"confirming {unit.name} over a new connection")
    try:
        with Host(host.name, host.endpoint) as new:
            if new.call(unit.confirm, {})["kept"]:
                return
        why = "it was confirmed too late"
    except LabError as error:
        why = f"no new connection came through ({error.what})"
    end = time.monotonic() + TAKEN_BACK
    what = f"{host.name} has not answered since"
    while time.monotonic() < end:
        try:
            with Host(host.name, host.endpoint) as new:
                new.connect()
            what = f"{host.name} has taken it back by itself and answers again"
            break
        except LabError:
            time.sleep(0.2)
    raise LabError(
        f"{host.name}: the change of {unit.name} was not kept: {why}; {what}",
        "invoke lab.plan shows the change; ssh_from in the topology says who may reach sshd",
    )


def _aftermath(unit: Unit, answer: Mapping[str, Any]) -> str:
    if not answer["restored"]:
        return "nothing had to be put back"
    text = f"put back: {', '.join(answer['restored'])}"
    if answer["after"]:
        return f"{text}; {answer['after']}"
    return f"{text}; {unit.service} goes on with the configuration it had" if unit.service else text
