"""Converge all machines in parallel: gather, plan and apply, one thread per machine.

Units of one machine are applied in order. A unit that needs a unit of another machine waits for
it, and is skipped when that one fails. An interrupted controller leaves whole units behind, so the
next run continues from there.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

from provision.core.errors import LabError
from provision.core.waiting import Timeout, timeout_factor, wait_until
from provision.engine.apply import apply_unit, inspect, inspect_unit
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.engine.package_relay import packages_through
from provision.engine.plan import Plan, Unit, UnitPlan

READABLE_SECONDS = 15.0 * timeout_factor()
"""For a service that was just started to answer."""

Units = Mapping[str, tuple[Unit, ...]]
"""The desired state by machine (`Context.desired`)."""


@dataclass(frozen=True)
class Outcome:
    """What a run did to one machine.

    Args:
        changed: the names of changed resources and of services that were reloaded.
        resources: how many were compared.
        round_trips: how many requests the machine answered.
        copies: paths on the machine of files that were changed by hand, kept before they were
            overwritten or removed.
        error: why the run failed there, or None.
    """

    machine: str
    changed: tuple[str, ...]
    resources: int
    seconds: float
    round_trips: int
    error: LabError | None = None
    copies: tuple[str, ...] = ()


class Stopped(LabError):  # noqa: N818 (an outcome, not a fault)
    """The run was interrupted between two units."""

    def __init__(self) -> None:
        super().__init__("stopped before the next step", "invoke lab.up continues from here")


@dataclass
class _Progress:
    """Which units of all machines are finished, by ``machine/unit``."""

    finished: dict[str, threading.Event] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    stop: threading.Event = field(default_factory=threading.Event)

    def finish(self, name: str, ok: bool) -> None:
        if not ok:
            self.failed.add(name)
        self.finished[name].set()

    def pending(self, name: str) -> bool:
        """Whether a unit of this run is not finished; one of a stopped machine never is."""
        return name in self.finished and not self.finished[name].is_set()

    def wait(self, name: str, waiting: str) -> None:
        """Wait until another machine's unit is finished.

        Args:
            name: of that unit, such as ``web-01/mysql``.
            waiting: the unit that needs it, for the message.

        Raises:
            LabError: when it failed, or the run is stopped.
        """
        while self.pending(name) and not self.finished[name].wait(0.1):
            if self.stop.is_set():
                raise Stopped
        if name in self.failed:
            if self.stop.is_set():
                raise Stopped
            raise LabError(f"{waiting} was skipped, since {name} failed")


def plans(fleet: Fleet, units: Units) -> dict[str, Plan]:
    """Compare every running machine with its desired state, in one round trip per machine."""
    return fleet.each(lambda host: Plan(host.name, inspect(host, units[host.name])))


def converge(fleet: Fleet, units: Units) -> dict[str, Outcome]:
    """Bring every running machine to its desired state.

    Returns:
        One outcome per machine. A failure is in its ``error``; it is not raised.

    Raises:
        KeyboardInterrupt: after every machine has finished its current unit.
    """
    names = [f"{machine}/{unit.name}" for machine in fleet.hosts for unit in units[machine]]
    progress = _Progress({name: threading.Event() for name in names})
    with ThreadPoolExecutor(max_workers=max(1, len(fleet.hosts))) as pool:
        try:
            futures = {
                name: pool.submit(_converge_machine, host, units[name], progress)
                for name, host in fleet.hosts.items()
            }
            while wait(futures.values(), timeout=0.2).not_done:
                pass  # an unlimited wait would block Ctrl-C
        except KeyboardInterrupt:
            progress.stop.set()
            for name in fleet.hosts:
                fleet.report(name, "finishing its step, then stopping")
            raise
        return {name: future.result() for name, future in futures.items()}


def _converge_machine(host: Host, units: tuple[Unit, ...], progress: _Progress) -> Outcome:
    started, trips = time.monotonic(), host.round_trips
    changed: list[str] = []
    error: LabError | None = None
    try:
        _apply_units(host, units, progress, changed)
    except LabError as caught:
        error = caught
    finally:
        for unit in units:
            if progress.pending(f"{host.name}/{unit.name}"):
                progress.finish(f"{host.name}/{unit.name}", False)
    host.log(_summary(changed, error))
    count = sum(len(unit.resources) for unit in units)
    seconds = time.monotonic() - started
    trips = host.round_trips - trips
    copies, host.copies = host.copies, ()
    return Outcome(host.name, tuple(changed), count, seconds, trips, error, copies)


def _apply_units(
    host: Host, units: tuple[Unit, ...], progress: _Progress, changed: list[str]
) -> None:
    """Apply the units in order; ``changed`` grows, so that it is known after an error too."""
    host.log("reading its state")
    planned = {unit_plan.unit.name: unit_plan for unit_plan in inspect(host, units)}
    written: list[str] = []
    for position, unit in enumerate(units):
        if progress.stop.is_set():
            raise Stopped
        if unit.name == "ownership" and changed:
            # It judges files and accounts that the other units may have changed since.
            planned[unit.name] = inspect_unit(host, unit)
        unit_plan = _after(planned[unit.name], written)
        if not unit_plan.empty:
            for name in unit.needs:
                if progress.pending(name):
                    host.log(f"waiting for {name}")
                progress.wait(name, f"{host.name}: {unit.name}")
            if unit_plan.unreadable:  # until another unit has started the service, for example
                unit_plan = _after(_readable(host, unit), written)
            if not unit_plan.empty:
                host.log(f"configuring {unit.name}")
            with _packages(host, unit_plan):
                changed += apply_unit(host, unit_plan)
            written += _paths(unit_plan)
            remaining = units[position + 1 :]
            if unit.name == "packages" and remaining:
                # Packages bring files, users and services that the first plan did not know.
                host.log("reading its state")
                planned = {later.unit.name: later for later in inspect(host, remaining)}
        progress.finish(f"{host.name}/{unit.name}", True)


def _packages(host: Host, unit_plan: UnitPlan) -> contextlib.AbstractContextManager[None]:
    """The package pool, for a unit that installs packages."""
    installs = any(action.do == "packages" for action in unit_plan.request().actions)
    return packages_through(host, host.pool) if installs else contextlib.nullcontext()


def _readable(host: Host, unit: Unit) -> UnitPlan:
    """The plan of a unit, once all its resources can be read; at the deadline as it is."""
    unit_plan = UnitPlan(unit)

    def readable() -> bool:
        nonlocal unit_plan
        unit_plan = inspect_unit(host, unit)
        return not unit_plan.unreadable

    with contextlib.suppress(Timeout):
        wait_until(readable, READABLE_SECONDS, f"{unit.name} to be readable", interval=0.5)
    return unit_plan


def _paths(unit_plan: UnitPlan) -> list[str]:
    """The trees and virtual environments that a unit has changed."""
    probes = [change.resource.probe() for change in unit_plan.changes]
    folders = [probe for probe in probes if probe.kind in ("tree", "virtualenv")]
    return [str(probe.args["path"]) for probe in folders]


def _after(unit_plan: UnitPlan, written: list[str]) -> UnitPlan:
    """The plan of a unit whose process may read what earlier units have changed."""
    read = [path for path in unit_plan.unit.reads if path in written]
    if read and unit_plan.unit.stamped:
        return replace(unit_plan, needs_reload=True, outdated=unit_plan.outdated or read[0])
    return unit_plan


def _summary(changed: list[str], error: LabError | None) -> str:
    if error is not None:
        return "stopped" if isinstance(error, Stopped) else "failed"
    return f"{len(changed)} changed" if changed else "unchanged"
