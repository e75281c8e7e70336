"""`firewall.*`: what is open on which machine, for whom, and how often that was used."""

from __future__ import annotations

import json as json_module
from typing import Any

from provision.commands import show as views
from provision.commands.base import console, session, show_json, task
from provision.core.errors import LabError
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.services.firewall import role as firewall


def counts(text: str) -> dict[str, int]:
    """By a rule's comment or a counter's name, how many packets it has seen.

    A rule sees the first packet of a connection; the rest of it is one rule for all.

    Args:
        text: the answer of ``nft --json list table inet lab``.
    """
    found: dict[str, int] = {}
    for item in json_module.loads(text)["nftables"]:
        if "counter" in item:
            found[item["counter"]["name"]] = item["counter"]["packets"]
        rule = item.get("rule", {})
        for part in rule.get("expr", ()):
            if isinstance(part.get("counter"), dict) and rule.get("comment"):
                comment = rule["comment"]
                found[comment] = found.get(comment, 0) + part["counter"]["packets"]
    return found


def rows(context: Context, fleet: Fleet, machines: list[str]) -> list[dict[str, str]]:
    """What is open on the machines, a row a rule, and a row for what was refused."""

    def one(host: Host) -> dict[str, int]:
        answer = host.run("nft", "--json", "list", "table", "inet", "lab")
        return counts(answer.out) if answer.ok else {}

    seen = fleet.each(one, machines)
    found: list[dict[str, str]] = []
    for name in machines:
        loaded = seen[name]
        for rule in firewall.rules(context, context.lab.machine(name)):
            found.append(
                {
                    "machine": name,
                    "port": f"{rule.port}/{rule.protocol}",
                    "open for": ", ".join(rule.sources) or "everybody",
                    "why": rule.why,
                    "connections": str(loaded.get(rule.why, "not loaded")),
                }
            )
        refused = loaded.get("dropped", "not loaded")
        found.append(
            {
                "machine": name,
                "port": "all others",
                "open for": "nobody",
                "why": "refused without an answer",
                "connections": str(refused),
            }
        )
    return found


@task(positional=["machine"], optional=["machine"], help={"json": "for programs"})
def show(c: Any, machine: str = "", lab: str = "", json: bool = False) -> None:
    """Show what the firewalls let in, for whom, and how many connections that were."""
    now = session(lab)
    behind = [m.name for m in now.lab.with_role("firewall")]
    if machine and now.lab.machine(machine).name not in behind:
        raise LabError(f"{machine} has no firewall in the topology {now.lab.topology.name}")
    if not behind:
        raise LabError(
            f"lab {now.lab.name} has no firewall: its topology is {now.lab.topology.name}",
            "invoke lab.up --topology secured",
        )
    with now.fleet() as fleet:
        names = [machine] if machine else [name for name in behind if name in fleet.hosts]
        found = rows(now.context, fleet, names)
    if json:
        show_json(found)
    else:
        views.table(console(), found)
