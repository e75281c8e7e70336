"""Short texts that answer the questions of the exercises, with values of the running lab.

A text is a template in configs/explain, rendered with `facts`. It ends with commands that
demonstrate the point in this lab.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from provision import topology
from provision.checks.balancer import backend_servers
from provision.checks.database import server_status
from provision.checks.observation import Observation
from provision.core.errors import not_among
from provision.core.hints import for_lab
from provision.core.lab import Machine
from provision.database.agent.server_status import ServerStatus
from provision.engine.context import Context
from provision.services.app import role as app_role
from provision.services.haproxy.interface import WEIGHT

TOPICS = {
    "server": "What is a server?",
    "domain": "What is the domain name for?",
    "www": "Which type of DNS record is www?",
    "components": "What does each component do?",
    "http": "How do browser and server talk?",
    "algorithm": "How does the balancer distribute requests?",
    "modes": "What are active-active and active-passive?",
    "replication": "What are primary and replica?",
    "primary": "What do primary and replica mean for the application?",
    "spof": "What is a single point of failure, and where are they?",
    "firewall": "Why a firewall?",
    "https": "Why HTTPS?",
    "monitoring": "What does monitoring collect, and how?",
    "qps": "How is a web server's QPS monitored?",
    "tls-at-balancer": "Why is terminating TLS at the balancer an issue?",
    "one-writer": "Why is a single writable MySQL server an issue?",
    "identical-servers": "Why are identical all-in-one servers an issue?",
}
"""The question of each topic, in the order of the exercises."""

UNKNOWN = "unknown: not running"


def text(context: Context, topic: str, observation: Observation) -> str:
    """The text of one of `TOPICS`, as Markdown.

    Raises:
        UsageError: for an unknown topic.
    """
    if topic not in TOPICS:
        raise not_among(f"unknown topic {topic!r}", topic, TOPICS)
    front = context.lab.front
    rendered = context.render(f"explain/{topic}.md.j2", front, **facts(context, observation))
    return for_lab(re.sub(r"\n{3,}", "\n\n", rendered), context.lab.name)


def commands(markdown: str) -> tuple[str, ...]:
    """The commands of a text."""
    return tuple(re.findall(r"^    (invoke .+)$", markdown, re.MULTILINE))


def list_of(machines: Iterable[Machine]) -> str:
    """``web-01, web-02 and web-03``."""
    names = [machine.name for machine in machines]
    if not names:
        return "none"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def facts(context: Context, observation: Observation) -> dict[str, Any]:
    """The variables of the templates."""
    lab, state = context.lab, context.state
    databases = lab.with_role("mysql")
    statuses = {m.name: server_status(observation, m.name) for m in databases}
    balancers, webs, apps = lab.with_role("haproxy"), lab.with_role("nginx"), lab.with_role("app")
    rows = backend_servers(observation, balancers[0].name) if balancers else {}
    replicas = tuple(m for m in databases if m.name != state.primary)
    lag = {name: _lag(state.primary, name, status) for name, status in statuses.items()}

    def cmd(task: str, remote: str = "") -> str:
        # A checkout may lack some of the topologies.
        name = task.partition("--topology ")[2]
        existing = not name or name in topology.names(lab.root)
        return f"invoke {task if existing else 'lab.status'}" + (f" -- {remote}" if remote else "")

    return {
        "cmd": cmd,
        "list_of": list_of,
        "front": lab.front.name,
        "virtual": lab.topology.virtual_address,
        "https": lab.topology.https,
        "balancers": balancers,
        "webs": webs,
        "apps": apps,
        "databases": databases,
        "primary": state.primary,
        "replicas": replicas,
        "monitors": lab.with_role("monitoring"),
        "algorithm": context.balance.algorithm,
        "mode": context.balance.mode,
        "weights": {m.name: state.weights.get(m.name, WEIGHT) for m in webs},
        "release": app_role.version_of(app_role.release_folder(context)),
        "states": {m.name: observation.states.get(m.name, "absent") for m in lab.machines},
        "programs": {
            m.name: ", ".join(s.removesuffix(".service") for s in context.services(m))
            for m in lab.machines
        },
        "served": {name: row["stot"] for name, row in rows.items()},
        "rate": {name: row["rate"] for name, row in rows.items()},
        "writable": {
            name: ("yes" if status.writable else "no") if status.up else UNKNOWN
            for name, status in statuses.items()
        },
        "lag": lag,
        "lags": ", ".join(f"{m.name}: {lag[m.name]}" for m in replicas),
        "semisync": bool(state.primary) and statuses[state.primary].semisync_active,
        "same_machine": any("mysql" in m.roles for m in apps),
        "same_machines": tuple(m for m in webs if {"app", "mysql"} <= set(m.roles)),
        "autopromote": state.autopromote,
    }


def _lag(primary: str, name: str, status: ServerStatus) -> str:
    if name == primary:
        return "-"
    if not status.up:
        return UNKNOWN
    return f"{status.lag} s" if status.lag is not None else "replication is not running"
