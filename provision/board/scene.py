"""The running lab as the page draws it: tiers, routes with their weights, replication, alerts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from provision.checks.balancer import server_statistics
from provision.checks.database import server_status
from provision.checks.observation import Observation
from provision.engine.context import Context
from provision.monitoring.agent.prometheus import Alert
from provision.teaching.diagram import Diagram, MachineBox, diagram

Values = dict[str, Any]
"""What JSON can hold."""


def scene(
    context: Context,
    observation: Observation,
    alerts: Sequence[Alert] | None,
) -> Values:
    """The values of a lab at one moment.

    Args:
        alerts: of Prometheus; None when the lab has no monitoring, or it does not respond.
    """
    picture = diagram(context, observation)
    return {
        "title": picture.title,
        "site": context.lab.site,
        "address": str(context.lab.address),
        "url": context.lab.url,
        "algorithm": context.balance.algorithm,
        "mode": context.balance.mode,
        "layers": _layers(picture, observation),
        "routes": _routes(context, observation),
        "replication": _replication(context, observation, picture),
        "alerts": _alerts(context, alerts),
        "problems": _problems(context, observation, picture),
    }


def _layers(picture: Diagram, observation: Observation) -> list[Values]:
    return [
        {
            "role": layer.role,
            "title": layer.title,
            "connection": layer.connection,
            "machines": [_machine(box, observation) for box in layer.boxes],
        }
        for layer in picture.layers
    ]


def _machine(box: MachineBox, observation: Observation) -> Values:
    unknown = box.state == "running" and box.name not in observation.results
    return {
        "name": box.name,
        "address": box.address,
        "state": box.state,
        "color": "grey" if unknown else box.color,
        "note": box.note,
        "error": observation.errors.get(box.name, "") if unknown else "",
        "programs": [
            {"name": p.name, "state": p.state, "bad": p.bad} for p in box.programs if not unknown
        ],
    }


def _routes(context: Context, observation: Observation) -> list[Values]:
    """Where each balancer sends requests."""
    return [
        {
            "source": balancer.name,
            "target": server.name,
            "status": server.status,
            "up": server.up,
            "weight": server.weight,
            "rate": server.rate,
            "sessions": server.sessions,
            "backup": server.backup,
        }
        for balancer in context.lab.with_role("haproxy")
        for server in server_statistics(context, observation, balancer.name)
    ]


def _replication(context: Context, observation: Observation, picture: Diagram) -> list[Values]:
    rows = []
    for source, replica in picture.replication:
        status = server_status(observation, replica)
        known = replica in observation.results
        rows.append(
            {
                "source": source,
                "replica": replica,
                "running": status.replicating if known else None,
                "lag": status.lag,
                "error": status.replication_error,
            }
        )
    return rows


def _alerts(context: Context, alerts: Sequence[Alert] | None) -> list[Values] | None:
    if alerts is None:
        return None
    return [
        {
            "name": alert.name,
            "machine": alert.machine,
            "severity": alert.severity,
            "text": alert.summary,
            "next": alert.next,
            "since": alert.since,
        }
        for alert in alerts
        if alert.state == "firing"
    ]


def _problems(context: Context, observation: Observation, picture: Diagram) -> list[str]:
    """What the drawing shows in red, as sentences for people who do not see colors."""
    problems = []
    for layer in picture.layers:
        for box in layer.boxes:
            if box.state != "running":
                problems.append(f"{box.name} is {box.state}")
            problems += [f"{box.name}: {p.name} is {p.state}" for p in box.programs if p.bad]
    for route in _routes(context, observation):
        if not route["up"]:
            problems.append(f"{route['source']} sends {route['target']} nothing: {route['status']}")
    for row in _replication(context, observation, picture):
        if row["running"] is False:
            problems.append(f"{row['replica']} does not replicate from {row['source']}")
    return problems


def without_lab(reason: str) -> Values:
    """The values of a lab that cannot be opened."""
    empty: Mapping[str, Any] = {"title": reason, "site": "", "address": "", "url": ""}
    lists: Values = {name: [] for name in ("layers", "routes", "replication", "problems")}
    return {**empty, **lists, "alerts": None, "algorithm": "", "mode": ""}
