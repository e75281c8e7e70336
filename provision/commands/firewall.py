"""`firewall.*`: open ports per machine, allowed sources and counters."""

from __future__ import annotations

import json as json_module
from typing import Any

from provision.commands import show as views
from provision.commands.base import console, open_session, show_json, task
from provision.core.errors import LabError
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.services.firewall import role as firewall


def counts(text: str) -> dict[str, int]:
    """Packets by the comment of a rule or the name of a counter.

    A rule counts the first packet of a connection; one common rule accepts the rest.

    Args:
        text: the output of ``nft --json list table inet lab``.
    """
    packets: dict[str, int] = {}
    for item in json_module.loads(text)["nftables"]:
        if "counter" in item:
            packets[item["counter"]["name"]] = item["counter"]["packets"]
        rule = item.get("rule", {})
        for part in rule.get("expr", ()):
            if isinstance(part.get("counter"), dict) and rule.get("comment"):
                comment = rule["comment"]
                packets[comment] = packets.get(comment, 0) + part["counter"]["packets"]
    return packets


def rows(context: Context, fleet: Fleet, machines: list[str]) -> list[dict[str, str]]:
    """One row per rule, and one per machine for dropped packets."""

    def read_counters(host: Host) -> dict[str, int]:
        result = host.run("nft", "--json", "list", "table", "inet", "lab")
        return counts(result.stdout) if result.ok else {}

    counters = fleet.each(read_counters, machines)
    table: list[dict[str, str]] = []
    for name in machines:
        loaded = counters[name]
        for rule in firewall.rules(context, context.lab.machine(name)):
            table.append(
                {
                    "machine": name,
                    "port": f"{rule.port}/{rule.protocol}",
                    "sources": ", ".join(rule.sources) or "any",
                    "why": rule.why,
                    "connections": str(loaded.get(rule.why, "not loaded")),
                }
            )
        dropped = loaded.get("dropped", "not loaded")
        table.append(
            {
                "machine": name,
                "port": "all others",
                "sources": "none",
                "why": "dropped",
                "connections": str(dropped),
            }
        )
    return table


@task(positional=["machine"], optional=["machine"], help={"json": "print JSON"})
def show(c: Any, machine: str = "", lab: str = "", json: bool = False) -> None:
    """Show open ports, allowed sources and connections."""
    session = open_session(lab)
    with_firewall = [m.name for m in session.lab.with_role("firewall")]
    if machine and session.lab.machine(machine).name not in with_firewall:
        raise LabError(f"{machine} has no firewall in the topology {session.lab.topology.name}")
    if not with_firewall:
        raise LabError(
            f"lab {session.lab.name} has no firewall: its topology is {session.lab.topology.name}",
            "invoke lab.up --topology secured",
        )
    with session.fleet() as fleet:
        names = [machine] if machine else [name for name in with_firewall if name in fleet.hosts]
        table = rows(session.context, fleet, names)
    if json:
        show_json(table)
    else:
        views.table(console(), table)
