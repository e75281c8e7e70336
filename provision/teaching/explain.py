"""Short texts on what the exercises ask, with the running lab's own values in them.

A text is a template below configs/explain; everything it may say of the lab is in `facts`. It ends
with commands of this lab that show the point happening.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from provision import topology
from provision.checks import balancer_view, database
from provision.checks.observation import Seen
from provision.core.errors import UsageError
from provision.core.lab import Lab, Machine
from provision.database.status import Status
from provision.engine.context import Context
from provision.registry import services
from provision.services.app import role as app_role
from provision.services.haproxy.role import WEIGHT

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
    "qps": "How is a web server's QPS watched?",
    "tls-at-balancer": "Why is ending TLS at the balancer an issue?",
    "one-writer": "Why is having one MySQL that takes writes an issue?",
    "identical-servers": "Why are identical all-in-one servers an issue?",
}
"""By name, in the order of the exercises, the question that a text answers."""

UNKNOWN = "not known, the lab does not run"


def text(context: Context, topic: str, seen: Seen) -> str:
    """One text, as Markdown.

    Args:
        context: the lab.
        topic: a key of `TOPICS`.
        seen: what was asked of it, or an empty one when it does not run.

    Raises:
        UsageError: when there is no such topic.
    """
    if topic not in TOPICS:
        raise UsageError(f"there is no text on {topic!r}", f"choose from {', '.join(TOPICS)}")
    front = context.lab.front
    rendered = context.render(f"explain/{topic}.md.j2", front, **facts(context, seen))
    return re.sub(r"\n{3,}", "\n\n", rendered)


def commands(markdown: str) -> tuple[str, ...]:
    """The commands that a text tells to type."""
    return tuple(re.findall(r"^    (invoke .+)$", markdown, re.MULTILINE))


def list_of(machines: Iterable[Machine]) -> str:
    """``web-01, web-02 and web-03``."""
    names = [machine.name for machine in machines]
    if not names:
        return "nobody"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def command(lab: Lab, task: str, remote: str = "") -> str:
    """A task's command line for this lab."""
    option = "" if lab.name == "default" else f" --lab {lab.name}"
    return f"invoke {task}{option}" + (f" -- {remote}" if remote else "")


def facts(context: Context, seen: Seen) -> dict[str, Any]:
    """Everything that a text may say of the lab."""
    lab, state = context.lab, context.state
    databases = lab.with_role("mysql")
    statuses = {m.name: Status.read(database(seen, m.name)) for m in databases}
    balancers, webs, apps = lab.with_role("haproxy"), lab.with_role("nginx"), lab.with_role("app")
    rows = balancer_view(seen, balancers[0].name) if balancers else {}
    replicas = tuple(m for m in databases if m.name != state.primary)
    lag = {name: _lag(state.primary, name, status) for name, status in statuses.items()}

    def cmd(task: str, remote: str = "") -> str:
        known = topology.names(lab.root)
        wanted = task.partition("--topology ")[2]
        return command(lab, task if not wanted or wanted in known else "lab.status", remote)

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
        "states": {m.name: seen.states.get(m.name, "absent") for m in lab.machines},
        "programs": {
            m.name: ", ".join(s.removesuffix(".service") for s in services(m)) for m in lab.machines
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


def _lag(primary: str, name: str, status: Status) -> str:
    if name == primary:
        return "-"
    if not status.up:
        return UNKNOWN
    return f"{status.lag} s" if status.lag is not None else "replication is stopped"


def nothing(states: Mapping[str, str]) -> Seen:
    """What is seen of a lab that does not run."""
    return Seen(states)
