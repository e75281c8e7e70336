"""Rules for hosts whose own firewall would drop a lab's packets.

A packet must be accepted by every base chain of a hook, so an accepting chain of our own has no
effect (nft(8)). Docker, ufw and firewalld drop forwarded packets by default: a rule is inserted at
the top of their chain, and found again by its comment, the name of the lab's table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provision.providers.lxc.privileged import run

LEGACY = Path("/proc/net/ip_tables_names")

Ruleset = Sequence[Mapping[str, Any]]
"""The list in the JSON of ``nft -j list ruleset`` (libnftables-json(5))."""


@dataclass(frozen=True)
class DroppingChain:
    """A base chain that drops the packets that none of its rules accepts."""

    family: str
    table: str
    name: str
    hook: str


def allow(bridge: str, comment: str) -> None:
    """Insert rules that accept the lab's packets. Idempotent."""
    rules = _list_rules()
    present = {(r["family"], r["table"], r["chain"]) for r in rules_with_comment(rules, comment)}
    _apply(
        line
        for chain in dropping_chains(rules)
        if (chain.family, chain.table, chain.name) not in present
        for line in accept_rules(chain, bridge, comment)
    )


def revoke(comment: str) -> None:
    """Delete those rules."""
    _apply(
        f"delete rule {r['family']} {r['table']} {r['chain']} handle {r['handle']}\n"
        for r in rules_with_comment(_list_rules(), comment)
    )


def accept_rules(chain: DroppingChain, bridge: str, comment: str) -> Sequence[str]:
    """Commands for ``nft -f`` that make a chain accept the lab's packets."""
    start = f"insert rule {chain.family} {chain.table} {chain.name}"
    end = f'accept comment "{comment}"\n'
    if chain.hook == "input":  # machines send only DNS queries to their host
        return [
            f'{start} iifname "{bridge}" {protocol} dport 53 {end}' for protocol in ("udp", "tcp")
        ]
    return [f'{start} {direction} "{bridge}" {end}' for direction in ("iifname", "oifname")]


def dropping_chains(ruleset: Ruleset) -> tuple[DroppingChain, ...]:
    """The base chains of the hooks forward and input that drop or reject by default.

    In a table with Docker's chain for custom rules, DOCKER-USER, that chain replaces the forward
    chain which jumps to it: Docker does not overwrite it.
    """
    chains = [entry["chain"] for entry in ruleset if "chain" in entry]
    docker = {(c["family"], c["table"]) for c in chains if c["name"] == "DOCKER-USER"}
    result = []
    for chain in chains:
        if chain.get("hook") not in ("forward", "input") or chain["family"] not in ("ip", "inet"):
            continue
        if chain.get("policy") == "drop" or _ends_with_drop(ruleset, chain):
            name = chain["name"]
            if chain["hook"] == "forward" and (chain["family"], chain["table"]) in docker:
                name = "DOCKER-USER"
            result.append(DroppingChain(chain["family"], chain["table"], name, chain["hook"]))
    return tuple(result)


def _ends_with_drop(ruleset: Ruleset, chain: Mapping[str, Any]) -> bool:
    """Whether the last rule of a chain drops or rejects unconditionally."""
    place = (chain["family"], chain["table"], chain["name"])
    rules = [entry["rule"] for entry in ruleset if "rule" in entry]
    own = [rule for rule in rules if (rule["family"], rule["table"], rule["chain"]) == place]
    if not own or len(own[-1]["expr"]) != 1:
        return False
    statement = own[-1]["expr"][0]
    return "drop" in statement or "reject" in statement


def rules_with_comment(ruleset: Ruleset, comment: str) -> tuple[Mapping[str, Any], ...]:
    """The rules with this comment."""
    return tuple(e["rule"] for e in ruleset if e.get("rule", {}).get("comment") == comment)


def has_legacy_filter() -> bool:
    """Whether iptables-legacy filters on this host; nft does not show its rules."""
    try:
        return "filter" in LEGACY.read_text().split()
    except OSError:
        return False


def _list_rules() -> Ruleset:
    text = run("reading this host's firewall", ["nft", "-j", "list", "ruleset"]).stdout
    return list(json.loads(text or "{}").get("nftables", []))


def _apply(commands: Iterable[str]) -> None:
    text = "".join(commands)
    if text:
        run("changing this host's firewall", ["nft", "-f", "-"], stdin=text.encode())
