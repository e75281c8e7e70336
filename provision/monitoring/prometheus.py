"""Asking Prometheus, through SSH and the monitoring machine's agent: its port is open to nobody.

`look` asks every named question (provision/monitoring/queries.py) in one round trip; understanding
the answers is pure.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlencode

from provision.core.errors import LabError
from provision.core.lab import Lab, Machine
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.monitoring.agent.queries import NOW, SERIES, over, step_for
from provision.monitoring.role import PROMETHEUS_PORT, SERVICE

T = TypeVar("T")


@dataclass(frozen=True)
class Series:
    """Values of one thing.

    Args:
        labels: which thing.
        points: seconds since 1970 and value, oldest first; one point for a value of this moment.
    """

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float | None:
        """The newest value."""
        return self.points[-1][1] if self.points else None


@dataclass(frozen=True)
class Alert:
    """An alert that Prometheus has.

    Args:
        name: such as ``ReplicationStopped``.
        state: ``firing``, or ``pending`` until it has lasted long enough.
        machine: to blame.
        severity: ``critical`` or ``warning``.
        summary: what is wrong.
        check: the named check that says the same; empty when there is none.
        next: the command to type.
        since: when it began, in UTC as Prometheus writes it.
    """

    name: str
    state: str
    machine: str
    severity: str
    summary: str
    check: str
    next: str
    since: str


@dataclass(frozen=True)
class View:
    """What Prometheus said at one moment.

    Args:
        time: of asking, in seconds since 1970.
        seconds: how far back `series` go.
        step: seconds between two of their points.
        series: by name (see queries.py), lines.
        now: by name, single values.
        alerts: firing ones first.
    """

    time: float
    seconds: int
    step: int
    series: Mapping[str, tuple[Series, ...]] = field(default_factory=dict)
    now: Mapping[str, tuple[Series, ...]] = field(default_factory=dict)
    alerts: tuple[Alert, ...] = ()

    def value(self, name: str, **labels: str) -> float | None:
        """One value of `now`; None when Prometheus knows none."""
        return _pick(self.now.get(name, ()), labels)

    def line(self, name: str, **labels: str) -> list[float | None]:
        """One line of `series` with a value for every step, None where there is none."""
        count = self.seconds // self.step
        line: list[float | None] = [None] * count
        found = [s for s in self.series.get(name, ()) if _has(s, labels)]
        newest = max(
            (s.points[-1][0] for each in self.series.values() for s in each if s.points),
            default=self.time,
        )
        for each in found:
            for moment, value in each.points:
                place = count - 1 - round((newest - moment) / self.step)
                if 0 <= place < count and value == value:
                    line[place] = (line[place] or 0.0) + value
        return line

    @property
    def firing(self) -> tuple[Alert, ...]:
        """The alerts that last."""
        return tuple(a for a in self.alerts if a.state == "firing")


def _has(series: Series, labels: Mapping[str, str]) -> bool:
    return all(series.labels.get(key) == value for key, value in labels.items())


def _pick(each: tuple[Series, ...], labels: Mapping[str, str]) -> float | None:
    found = next((s for s in each if _has(s, labels)), None)
    return None if found is None or found.last != found.last else found.last


# --- understanding -------------------------------------------------------------------------------


def parse(body: str) -> tuple[Series, ...]:
    """Series out of an answer of ``/api/v1/query`` (Prometheus' documentation, "HTTP API").

    Raises:
        ValueError: when it is no such answer, or says that the query failed.
    """
    answer = json.loads(body)
    if not isinstance(answer, dict) or answer.get("status") != "success":
        error = answer.get("error") if isinstance(answer, dict) else body[:200]
        raise ValueError(str(error))
    found = []
    for each in answer["data"]["result"]:
        values = each["values"] if "values" in each else [each["value"]]
        labels = {k: v for k, v in each["metric"].items() if k != "__name__"}
        found.append(Series(labels, tuple((float(t), float(v)) for t, v in values)))
    return tuple(found)


def parse_alerts(body: str) -> tuple[Alert, ...]:
    """Alerts out of an answer of ``/api/v1/alerts``: firing first, then critical, then by name.

    Raises:
        ValueError: when it is no such answer.
    """
    answer = json.loads(body)
    if not isinstance(answer, dict) or answer.get("status") != "success":
        raise ValueError(body[:200])
    found = []
    for each in answer["data"]["alerts"]:
        labels, notes = each["labels"], each["annotations"]
        found.append(
            Alert(
                labels["alertname"],
                each["state"],
                labels.get("machine", ""),
                labels.get("severity", ""),
                notes.get("summary", ""),
                notes.get("check", ""),
                notes.get("next", ""),
                each.get("activeAt", ""),
            )
        )
    return tuple(
        sorted(
            found, key=lambda a: (a.state != "firing", a.severity != "critical", a.name, a.machine)
        )
    )


# --- asking --------------------------------------------------------------------------------------


def monitor(lab: Lab) -> Machine:
    """The machine that monitors.

    Raises:
        LabError: when the lab's topology has none.
    """
    machines = lab.with_role("monitoring")
    if not machines:
        raise LabError(
            f"nothing monitors lab {lab.name}: no machine of {lab.topology.name} has the role",
            "invoke lab.up --topology secured",
        )
    return machines[0]


def question(path: str, **query: str) -> dict[str, Any]:
    """One GET of Prometheus' HTTP API, for the agent's ``http`` probe."""
    text = f"{path}?{urlencode(query)}" if query else path
    return {"address": "127.0.0.1", "port": PROMETHEUS_PORT, "path": text, "timeout": 5.0}


def look(fleet: Fleet, seconds: int, *, points: int = 60) -> View:
    """Ask everything that is shown, in one round trip.

    Args:
        fleet: the lab's machines.
        seconds: how far back lines go.
        points: at most so many points a line.

    Raises:
        LabError: when nothing monitors, or Prometheus does not answer.
    """
    host = fleet.host(monitor(fleet.lab).name)
    step = step_for(seconds, points)
    texts = {f"series {n}": over(q, seconds, step) for n, q in SERIES.items()}
    texts |= {f"now {n}": q for n, q in NOW.items()}
    asked = [question("/api/v1/query", query=text) for text in texts.values()]
    *answers, alerts = _ask(host, [*asked, question("/api/v1/alerts")])
    parsed = dict(zip(texts, (_understood(host, parse, a) for a in answers), strict=True))
    return View(
        time.time(),
        seconds,
        step,
        {name: parsed[f"series {name}"] for name in SERIES},
        {name: parsed[f"now {name}"] for name in NOW},
        _understood(host, parse_alerts, alerts),
    )


def alerts(fleet: Fleet) -> tuple[Alert, ...]:
    """The alerts of this moment.

    Raises:
        LabError: when nothing monitors, or Prometheus does not answer.
    """
    host = fleet.host(monitor(fleet.lab).name)
    return _understood(host, parse_alerts, _ask(host, [question("/api/v1/alerts")])[0])


def _ask(host: Host, questions: list[dict[str, Any]]) -> list[str]:
    answers = host.gather({"http": questions})["http"]
    for answer in answers:
        if answer["error"]:
            raise _silent(host, answer["error"])
    return [str(answer["body"]) for answer in answers]


def _understood(host: Host, parser: Callable[[str], T], body: str) -> T:
    try:
        return parser(body)
    except (ValueError, KeyError, TypeError) as error:
        raise _silent(host, f"{error}: {body[:200]}") from None


def _silent(host: Host, why: str) -> LabError:
    name = SERVICE.removesuffix(".service")
    return LabError(
        f"{host.name}: Prometheus does not answer ({why})",
        f"invoke lab.logs {host.name} --service {name}; invoke lab.up mends it",
    )
