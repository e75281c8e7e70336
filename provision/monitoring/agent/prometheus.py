"""Read Prometheus' HTTP API: used by the page on the monitoring machine and by the controller.

The caller supplies the transport; building requests and parsing responses is pure.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from provision.monitoring.agent.queries import CURRENT, SERIES, over, step_for

ADDRESS, PORT = "127.0.0.1", 9090

ALERTS_PATH = "/api/v1/alerts"
TARGETS_QUERY = CURRENT["targets"]

Fetch = Callable[[Sequence[str]], list[str]]
"""Sends one GET request per path and returns the bodies in the same order."""


@dataclass(frozen=True)
class Series:
    """One time series: Unix times and values, oldest first; one point for an instant query."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float | None:
        """The newest value."""
        return self.points[-1][1] if self.points else None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether it has all these labels."""
        return all(self.labels.get(key) == value for key, value in labels.items())


@dataclass(frozen=True)
class Alert:
    """An alert; ``check`` names the equivalent check, ``since`` is RFC 3339 in UTC."""

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
    """Metrics and alerts at one moment.

    `series` cover the last ``seconds``, with a point every ``step`` seconds; names are those of
    queries.py. Firing alerts come first.
    """

    time: float
    seconds: int
    step: int
    series: Mapping[str, tuple[Series, ...]] = field(default_factory=dict)
    current: Mapping[str, tuple[Series, ...]] = field(default_factory=dict)
    alerts: tuple[Alert, ...] = ()

    def value(self, name: str, **labels: str) -> float | None:
        """A current value; None when Prometheus has none."""
        matching = (s.last for s in self.current.get(name, ()) if s.matches(labels))
        value = next(matching, None)
        return None if value is None or value != value else value

    def line(self, name: str, **labels: str) -> list[float | None]:
        """One value per step of a time series, None where there is none; matches are added up."""
        count = self.seconds // self.step
        line: list[float | None] = [None] * count
        newest = max(
            (s.points[-1][0] for group in self.series.values() for s in group if s.points),
            default=self.time,
        )
        for series in self.series.get(name, ()):
            if not series.matches(labels):
                continue
            for moment, value in series.points:
                index = count - 1 - round((newest - moment) / self.step)
                if 0 <= index < count and value == value:
                    line[index] = (line[index] or 0.0) + value
        return line

    @property
    def firing(self) -> tuple[Alert, ...]:
        """Alerts that are not only pending."""
        return tuple(a for a in self.alerts if a.state == "firing")


def query_path(promql: str) -> str:
    """The path of an instant query."""
    return f"/api/v1/query?{urlencode({'query': promql})}"


def read_view(fetch: Fetch, seconds: int, points: int) -> View:
    """Run all named queries.

    Raises:
        ValueError: when a response is malformed or reports an error.
    """
    step = step_for(seconds, points)
    paths = [query_path(over(promql, seconds, step)) for promql in SERIES.values()]
    paths += [query_path(promql) for promql in CURRENT.values()]
    *bodies, alerts = fetch([*paths, ALERTS_PATH])
    parsed = [parse_series(body) for body in bodies]
    return View(
        time.time(),
        seconds,
        step,
        dict(zip(SERIES, parsed[: len(SERIES)], strict=True)),
        dict(zip(CURRENT, parsed[len(SERIES) :], strict=True)),
        parse_alerts(alerts),
    )


def _data(body: str) -> Mapping[str, Any]:
    response = json.loads(body)
    if not isinstance(response, dict) or response.get("status") != "success":
        error = response.get("error") if isinstance(response, dict) else None
        raise ValueError(str(error or body[:200]))
    data: Mapping[str, Any] = response["data"]
    return data


def parse_series(body: str) -> tuple[Series, ...]:
    """Parse a response of ``/api/v1/query`` (Prometheus documentation, "HTTP API").

    Raises:
        ValueError: when it is malformed or reports an error.
    """
    try:
        return tuple(
            Series(
                {k: v for k, v in item["metric"].items() if k != "__name__"},
                tuple((float(t), float(v)) for t, v in item.get("values") or [item["value"]]),
            )
            for item in _data(body)["result"]
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"unexpected response ({error!r}): {body[:200]}") from None


def parse_alerts(body: str) -> tuple[Alert, ...]:
    """Parse a response of ``/api/v1/alerts``: firing first, then critical, then by name.

    Raises:
        ValueError: when it is malformed or reports an error.
    """
    try:
        alerts = [_alert(item) for item in _data(body)["alerts"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"unexpected response ({error!r}): {body[:200]}") from None
    return tuple(
        sorted(
            alerts,
            key=lambda a: (a.state != "firing", a.severity != "critical", a.name, a.machine),
        )
    )


def _alert(item: Mapping[str, Any]) -> Alert:
    labels, annotations = item["labels"], item["annotations"]
    return Alert(
        name=labels["alertname"],
        state=item["state"],
        machine=labels.get("machine", ""),
        severity=labels.get("severity", ""),
        summary=annotations.get("summary", ""),
        check=annotations.get("check", ""),
        next=annotations.get("next", ""),
        since=item.get("activeAt", ""),
    )
