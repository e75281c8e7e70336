"""The desired state of a machine, and its difference from the actual state.

A role declares `Unit`s of `Resource`s. Every resource has a probe; all probes of a machine travel
in one round trip (``Host.gather``). `plan` compares the results with the desired state and returns
values, which ``lab.plan`` prints and ``apply_unit`` carries out.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic

from provision.core.waiting import timeout_factor
from provision.engine.agent.files import loaded_probe
from provision.engine.agent.protocol import (
    Action,
    Probe,
    R,
    Readiness,
    Results,
    Stamp,
    UnitRequest,
)
from provision.engine.agent.unit_files import (
    LastChange,
    SystemdUnit,
    generated,
    last_change_probe,
    systemd_unit_probe,
)

State = Mapping[str, str]


@dataclass(frozen=True)
class Difference:
    """One attribute of one resource that differs from its desired value.

    Args:
        key: the attribute, such as ``mode`` or ``content``.
        before: the actual value; empty when there is none.
        after: the desired value.
        secret: whether the values must not be shown.
    """

    key: str
    before: str
    after: str
    secret: bool = False


@dataclass(frozen=True)
class Resource(ABC, Generic[R]):
    """One thing on a machine, with the result type of its probe."""

    @property
    def loads(self) -> bool:
        """Whether the unit's process reads it, so that a change requires a reload."""
        return False

    @property
    def restarts(self) -> bool:
        """Whether its change requires a restart of the unit's service, not only a reload."""
        return False

    def service_of(self, key: str) -> str:
        """What a difference of this key is attributed to, if not to the unit's service."""
        return ""

    def package_of(self, key: str) -> str:
        """The package, if known, whose absence a difference of this key shows."""
        return ""

    @property
    def runtime(self) -> bool:
        """Whether it is the state of a running process, which checks of its own judge."""
        return False

    @property
    @abstractmethod
    def name(self) -> str:
        """Human-readable: ``file /etc/nginx/nginx.conf``."""

    @abstractmethod
    def probe(self) -> Probe[R]:
        """What `actual` needs to know."""

    @abstractmethod
    def expected(self) -> State:
        """The desired state, as flat text values."""

    @abstractmethod
    def actual(self, result: R) -> State:
        """The actual state, with the same keys. A pure function."""

    @abstractmethod
    def actions(self, result: R) -> list[Action]:
        """What to do on the machine to reach the desired state."""

    def unreadable(self, result: R) -> str:
        """Why the result says nothing about the actual state, such as MySQL's error; or empty."""
        return ""

    def secret_keys(self) -> frozenset[str]:
        """The keys whose values are never shown."""
        return frozenset()

    def differences(self, result: R) -> tuple[Difference, ...]:
        """The differences between actual and desired state."""
        actual = self.actual(result)
        hidden = self.secret_keys()
        return tuple(
            Difference(key, actual.get(key, ""), value, key in hidden)
            for key, value in self.expected().items()
            if actual.get(key, "") != value
        )


@dataclass(frozen=True)
class Unit:
    """Resources that are changed, validated, activated and probed together.

    Args:
        name: such as ``haproxy``; unique on its machine.
        resources: in the order in which they are changed.
        service: the systemd unit that loads the files, or empty.
        activate: how the service loads changed files: ``reload``, ``restart``, or
            ``try-restart``, which does not start a stopped service.
        validate: argv of a program that rejects a bad configuration, run before activation.
        readiness: what must respond afterwards.
        needs: units of other machines that are applied first, such as ``web-01/mysql``.
        extra_fingerprint: text that the process loads and no resource of the unit holds.
        confirm: an operation of the agent that is called over a new connection after a change;
            without that call the machine reverts the change automatically.
        reads: folders of other units of this machine whose files the process reads, too.
        passive: drop-ins of the service that take effect only at its next start.
    """

    name: str
    resources: tuple[Resource[Any], ...]
    service: str = ""
    activate: str = ""
    validate: tuple[str, ...] = ()
    readiness: Readiness | None = None
    needs: tuple[str, ...] = ()
    extra_fingerprint: str = ""
    confirm: str = ""
    reads: tuple[str, ...] = ()
    passive: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """A digest of everything that the service's process loads."""
        loaded = [(r.name, dict(r.expected())) for r in self.resources if r.loads]
        text = json.dumps([loaded, self.extra_fingerprint], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def stamped(self) -> bool:
        """Whether a process loads the configuration, so that its fingerprint is recorded."""
        return bool(self.service and self.activate)

    @property
    def restartable(self) -> bool:
        """Whether its process is compared with the files that it reads."""
        return self.stamped and self.activate != "try-restart"

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths on the machine that its process reads."""
        probes = [resource.probe() for resource in self.resources if resource.loads]
        own = (str(probe.args["path"]) for probe in probes if probe.kind in ("path", "tree"))
        return tuple(dict.fromkeys([*own, *self.reads]))

    def last_change(self) -> Probe[LastChange]:
        """The last change of what its process reads."""
        return last_change_probe(self.name, self.paths)

    def probes(self) -> list[Probe[Any]]:
        """The probes of its resources, and of what its process has loaded."""
        probes: list[Probe[Any]] = [resource.probe() for resource in self.resources]
        if self.stamped:
            probes.append(loaded_probe(self.name))
        if self.restartable:
            probes += [systemd_unit_probe(self.service), self.last_change()]
        return probes


@dataclass(frozen=True)
class Change:
    """A resource that differs from its desired state."""

    resource: Resource[Any]
    differences: tuple[Difference, ...]
    result: Any


@dataclass(frozen=True)
class Unreadable:
    """A resource whose actual state is unknown, and why."""

    resource: Resource[Any]
    reason: str


@dataclass(frozen=True)
class UnitPlan:
    """The difference of one unit.

    Args:
        unit: the desired state.
        changes: the resources that differ.
        needs_reload: the service has not loaded its present files.
        already_loaded: the service was brought to the new configuration at run time; it is
            recorded as loaded without a reload.
        outdated: the file that the process reads and that was changed after it started; empty
            when there is none.
        restart: a reload is not enough for `outdated`.
        unreadable: resources that could not be compared.
    """

    unit: Unit
    changes: tuple[Change, ...] = ()
    needs_reload: bool = False
    already_loaded: bool = False
    outdated: str = ""
    restart: bool = False
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing has to be done."""
        return not self.changes and not self.needs_reload and not self.unreadable

    @property
    def verb(self) -> str:
        """What systemctl does when files have to be loaded."""
        restart = self.restart or any(change.resource.restarts for change in self.changes)
        return "restart" if restart and self.unit.activate == "reload" else self.unit.activate

    def request(self) -> UnitRequest:
        """The plan as one request for the machine."""
        unit, readiness = self.unit, self.unit.readiness
        changed = self.needs_reload or any(
            c.resource.loads or c.resource.restarts for c in self.changes
        )
        if readiness is not None:
            readiness = replace(readiness, deadline=readiness.deadline * timeout_factor())
        return UnitRequest(
            actions=tuple(a for c in self.changes for a in c.resource.actions(c.result)),
            validate=unit.validate if changed else (),
            service=unit.service,
            activate="" if self.already_loaded else self.verb,
            needs_reload=changed and not self.already_loaded,
            readiness=readiness,
            stamp=Stamp(unit.name, unit.fingerprint) if unit.stamped else None,
        )


@dataclass(frozen=True)
class Plan:
    """The difference of one machine."""

    machine: str
    units: tuple[UnitPlan, ...] = ()

    @property
    def changes(self) -> int:
        """How many resources differ, and services have to reload."""
        return sum(len(u.changes) + (u.needs_reload and not u.changes) for u in self.units)


def probes(units: Iterable[Unit]) -> list[Probe[Any]]:
    """The probes that planning these units needs."""
    return [probe for unit in units for probe in unit.probes()]


def plan(machine: str, units: Iterable[Unit], results: Results) -> Plan:
    """Compare the desired state with the results of ``probes(units)``. A pure function."""
    return Plan(machine, tuple(_plan_unit(unit, results) for unit in units))


def _plan_unit(unit: Unit, results: Results) -> UnitPlan:
    changes, unreadable = [], []
    for resource in unit.resources:
        probe = resource.probe()
        problem = results.problem(probe)
        if not problem:
            result = results[probe]
            problem = resource.unreadable(result)
        if problem:
            unreadable.append(Unreadable(resource, problem))
        elif differences := resource.differences(result):
            changes.append(Change(resource, differences, result))
    needs_reload = False
    if unit.stamped:
        loaded = results.get(loaded_probe(unit.name))
        needs_reload = loaded is not None and loaded.fingerprint != unit.fingerprint
    outdated, restart = outdated_by(unit, results) if unit.restartable else ("", False)
    return UnitPlan(
        unit,
        tuple(changes),
        needs_reload or bool(outdated),
        outdated=outdated,
        restart=restart,
        unreadable=tuple(unreadable),
    )


def outdated_by(unit: Unit, results: Results) -> tuple[str, bool]:
    """What was changed after a unit's process started or was reloaded.

    Returns:
        The path, or empty; and whether only a restart loads it. Both times are of the machine.
    """
    loaded = results.get(systemd_unit_probe(unit.service))
    if loaded is None or not loaded.since:
        return "", False
    path, changed = _changed_unit_file(unit, loaded)
    if changed > loaded.started:
        return path, True
    if loaded.replaced:
        return "its program", True
    last = results.get(unit.last_change())
    if last is not None and last.changed > max(loaded.since, _applied_at_run_time(unit, results)):
        return last.path, False
    return "", False


def _applied_at_run_time(unit: Unit, results: Results) -> float:
    """When the process got its configuration without a reload, as through HAProxy's socket."""
    stamp = results.get(loaded_probe(unit.name))
    return stamp.recorded if stamp is not None and stamp.fingerprint == unit.fingerprint else 0.0


def _changed_unit_file(unit: Unit, loaded: SystemdUnit) -> tuple[str, float]:
    times = {
        path: when
        for path, when in loaded.files.items()
        if path not in unit.passive and not generated(path)
    }
    return max(times.items(), key=lambda item: item[1], default=("", 0.0))
