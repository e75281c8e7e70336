"""`firewall.*`: open ports per machine, allowed sources and counters."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from provision.commands import tables
from provision.commands.base import console, open_session, publish, task
from provision.commands.results import site as results
from provision.core.errors import LabError
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.services.firewall import role as firewall


def counts(text: str) -> dict[tuple[str, str], int]:
    """Packets by the comment and protocol of a rule, or the name of a counter without protocol.

    A rule counts the first packet of a connection; one common rule accepts the rest.

    Args:
        text: the output of ``nft --json list table inet lab``.
    """
    packets: dict[tuple[str, str], int] = {}
    for item in json.loads(text)["nftables"]:
        if "counter" in item:
            packets[item["counter"]["name"], ""] = item["counter"]["packets"]
        rule = item.get("rule", {})
        protocol = _protocol(rule.get("expr", ()))
        for part in rule.get("expr", ()):
            if isinstance(part.get("counter"), dict) and rule.get("comment"):
                key = rule["comment"], protocol
                packets[key] = packets.get(key, 0) + part["counter"]["packets"]
    return packets


def _protocol(expressions: Iterable[Any]) -> str:
    """What a rule matches: the protocol of a destination port, or the IP protocol."""
    for expression in expressions:
        match = expression.get("match", {})
        payload = match.get("left", {}).get("payload", {})
        if payload.get("field") == "dport":
            return str(payload["protocol"])
        if payload.get("field") == "protocol":
            return str(match["right"])
    return ""


def values(context: Context, fleet: Fleet, machines: list[str]) -> results.Firewall:
    """The rules of the machines and the packets that each accepted or dropped."""

    def read_counters(host: Host) -> dict[tuple[str, str], int]:
        result = host.run("nft", "--json", "list", "table", "inet", "lab")
        return counts(result.stdout) if result.ok else {}

    counters = fleet.each(read_counters, machines)
    return results.Firewall(
        rules=[
            results.FirewallRule(
                machine=name,
                port=rule.port or None,
                protocol=rule.protocol,
                sources=list(rule.sources),
                why=rule.why,
                connections=counters[name].get((rule.why, rule.protocol)),
            )
            for name in machines
            for rule in firewall.rules(context, context.lab.machine(name))
        ],
        dropped=[
            results.Dropped(machine=name, packets=counters[name].get(("dropped", "")))
            for name in machines
        ],
    )


def rows(shown: results.Firewall) -> list[dict[str, str]]:
    """One row per rule, and one per machine for dropped packets."""
    table: list[dict[str, str]] = []
    for last in shown["dropped"]:
        for rule in shown["rules"]:
            if rule["machine"] == last["machine"]:
                table.append(
                    {
                        "machine": rule["machine"],
                        "port": f"{rule['port']}/{rule['protocol']}"
                        if rule["port"]
                        else rule["protocol"],
                        "sources": ", ".join(rule["sources"]) or "any",
                        "why": rule["why"],
                        "connections": _loaded(rule["connections"]),
                    }
                )
        table.append(
            {
                "machine": last["machine"],
                "port": "all others",
                "sources": "none",
                "why": "dropped",
                "connections": _loaded(last["packets"]),
            }
        )
    return table


def _loaded(count: int | None) -> str:
    return "not loaded" if count is None else str(count)


LAYOUT = tables.layout(
    "firewall.show",
    tables.Column("MACHINE"),
    tables.Column("PORT"),
    tables.Column("SOURCES", prose=True),
    tables.Column("WHY", 2, prose=True),
    tables.Column("CONNECTIONS", 1, right=True),
)


@task(
    result=results.Firewall,
    positional=["machine"],
    help={"machine": "one machine (default: all with a firewall)"},
)
def show(c: Any, machine: str = "", lab: str = "") -> None:
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
        shown = values(session.context, fleet, names)
    if not publish(shown):
        tables.show(console(), LAYOUT, [tuple(row.values()) for row in rows(shown)])
