"""What happens to a machine: desired state, its difference from the actual one, and applying it.

A role declares ``Unit``s of ``Resource``s. Every resource contributes a question; all questions of
a machine go in one round trip (``gather``). ``plan`` compares the answers with what is desired and
returns plain values: printing them is ``lab.plan``, carrying them out is ``apply``.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from provision.core.patience import patience

Answer = Mapping[str, Any]
State = Mapping[str, str]


@dataclass(frozen=True)
class Difference:
    """One attribute of one resource that is not as desired.

    Args:
        key: the attribute, such as ``mode`` or ``content``.
        before: what it is now; empty when there is nothing.
        after: what it should be.
        secret: True when neither may be shown.
    """

    key: str
    before: str
    after: str
    secret: bool = False


@dataclass(frozen=True)
class Resource(ABC):
    """One kind of thing on a machine: asks how it is, knows how it should be, can be made so."""

    kind: ClassVar[str]
    """The name of the probe on the machine that answers for it."""

    @property
    def loads(self) -> bool:
        """Whether the unit's process reads it, so that a change makes a reload due."""
        return False

    @property
    @abstractmethod
    def name(self) -> str:
        """What people call it: ``file /etc/nginx/nginx.conf``."""

    @abstractmethod
    def question(self) -> dict[str, Any]:
        """The arguments of its probe."""

    @abstractmethod
    def expected(self) -> State:
        """How it should be, as flat text values."""

    @abstractmethod
    def actual(self, answer: Answer) -> State:
        """How it is, in the same keys, understood from the probe's answer. A pure function."""

    @abstractmethod
    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """What to do on the machine to make it so."""

    def secret_keys(self) -> frozenset[str]:
        """The keys whose values are never shown."""
        return frozenset()

    def differences(self, answer: Answer) -> tuple[Difference, ...]:
        """Where the actual state is not the expected one."""
        actual = self.actual(answer)
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
        activate: how the service takes up changed files: ``reload``, ``restart``, or
            ``try-restart``, which leaves it alone when it does not run.
        validate: a program that refuses a bad configuration, run before activation.
        wait: what must answer afterwards (see ``remote/http.py``), or None.
        needs: units of other machines that must be done first, as ``web-01/mysql``.
        confirm: an operation of the agent (``remote/agent.py``) that is called over a new
            connection after a change; without it the machine takes the change back by itself.
        also: further text that the process has loaded and no resource here holds (a fingerprint).
    """

    name: str
    resources: tuple[Resource, ...]
    service: str = ""
    activate: str = ""
    validate: tuple[str, ...] = ()
    wait: Mapping[str, Any] | None = None
    needs: tuple[str, ...] = ()
    also: str = ""
    confirm: str = ""

    @property
    def fingerprint(self) -> str:
        """A digest of everything that the service's process loads."""
        loaded = [(r.name, dict(r.expected())) for r in self.resources if r.loads]
        text = json.dumps([loaded, self.also], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def questions(self) -> list[tuple[str, dict[str, Any]]]:
        """All probes of this unit: those of its resources, and what its process has loaded."""
        asked = [(r.kind, r.question()) for r in self.resources]
        if self.service and self.activate:
            asked.append(("stamp", {"unit": self.name}))
        return asked


@dataclass(frozen=True)
class Change:
    """A resource that is not as desired."""

    resource: Resource
    differences: tuple[Difference, ...]
    answer: Answer


@dataclass(frozen=True)
class UnitPlan:
    """What a unit needs: changes, and whether its service must take up a new configuration."""

    unit: Unit
    changes: tuple[Change, ...] = ()
    due: bool = False

    @property
    def empty(self) -> bool:
        """True when the unit is as desired."""
        return not self.changes and not self.due

    def request(self) -> dict[str, Any]:
        """The plan as one request for the machine (see ``remote/units.py``)."""
        unit = self.unit
        touched = self.due or any(c.resource.loads for c in self.changes)
        return {
            "actions": [a for c in self.changes for a in c.resource.actions(c.answer)],
            "validate": list(unit.validate) if touched and unit.validate else None,
            "service": unit.service,
            "activate": unit.activate,
            "due": touched,
            "wait": _patient(unit.wait) if unit.wait else None,
            "stamp": {"unit": unit.name, "fingerprint": unit.fingerprint}
            if unit.service and unit.activate
            else None,
        }


def _patient(wait: Mapping[str, Any]) -> dict[str, Any]:
    """A wait with its deadline as long as this controller is patient."""
    return {**wait, "deadline": wait["deadline"] * patience()}


@dataclass(frozen=True)
class Plan:
    """What one machine needs."""

    machine: str
    units: tuple[UnitPlan, ...] = ()

    @property
    def changes(self) -> int:
        """How many resources and loads differ."""
        return sum(len(u.changes) + (u.due and not u.changes) for u in self.units)


@dataclass
class Questions:
    """The probes of many units, each asked once, and where each answer is found."""

    asked: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _places: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, kind: str, question: dict[str, Any]) -> None:
        """Ask this once, however many want to know."""
        key = (kind, json.dumps(question, sort_keys=True))
        if key not in self._places:
            each = self.asked.setdefault(kind, [])
            self._places[key] = len(each)
            each.append(question)

    def answer(self, answers: Mapping[str, Any], kind: str, question: dict[str, Any]) -> Answer:
        """The answer to one question, out of the machine's reply to all."""
        place = self._places[kind, json.dumps(question, sort_keys=True)]
        found: Answer = answers[kind][place]
        return found


def questions(units: Sequence[Unit]) -> Questions:
    """Everything that must be known of a machine to plan these units."""
    collected = Questions()
    for unit in units:
        for kind, question in unit.questions():
            collected.add(kind, question)
    return collected


def plan(machine: str, units: Sequence[Unit], answers: Mapping[str, Any]) -> Plan:
    """Compare what is desired with what a machine answered. A pure function.

    Args:
        machine: its name.
        units: what is desired, in the order of application.
        answers: the machine's reply to ``questions(units).asked``.
    """
    asked = questions(units)
    planned = []
    for unit in units:
        changes = []
        for resource in unit.resources:
            answer = asked.answer(answers, resource.kind, resource.question())
            differences = resource.differences(answer)
            if differences:
                changes.append(Change(resource, differences, answer))
        due = False
        if unit.service and unit.activate:
            stamp = asked.answer(answers, "stamp", {"unit": unit.name})
            due = stamp["fingerprint"] != unit.fingerprint
        planned.append(UnitPlan(unit, tuple(changes), due))
    return Plan(machine, tuple(planned))
