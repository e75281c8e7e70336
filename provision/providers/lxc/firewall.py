"""Hosts that filter: a rule beside each chain that would drop a lab's packets.

A packet must be accepted by every chain of a hook, so an accepting chain of our own would not
help (nft(8)). Docker, ufw and firewalld drop what is forwarded: our rule goes to the top of
their chain, bears the lab's name as its comment, and is removed by it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provision.providers.lxc.privileged import run

LEGACY = Path("/proc/net/ip_tables_names")


@dataclass(frozen=True)
class Chain:
    """A base chain that drops what no rule of it accepts."""

    family: str
    table: str
    name: str
    hook: str


def open_for(bridge: str, comment: str) -> None:
    """Let the lab's packets through chains that would drop them. Can be repeated."""
    rules = _ruleset()
    present = {(r["family"], r["table"], r["chain"]) for r in commented(rules, comment)}
    commands = [
        line
        for chain in dropping(rules)
        if (chain.family, chain.table, chain.name) not in present
        for line in openings(chain, bridge, comment)
    ]
    if commands:
        run("this host's packet filter", ["nft", "-f", "-"], stdin="".join(commands).encode())


def close_for(comment: str) -> None:
    """Take those rules away again."""
    commands = [
        f"delete rule {r['family']} {r['table']} {r['chain']} handle {r['handle']}\n"
        for r in commented(_ruleset(), comment)
    ]
    if commands:
        run("this host's packet filter", ["nft", "-f", "-"], stdin="".join(commands).encode())


def openings(chain: Chain, bridge: str, comment: str) -> Sequence[str]:
    """Commands for ``nft -f``.

    Args:
        chain: where to put rules.
        bridge: the lab's.
        comment: by which the rules are found again.
    """
    start = f"insert rule {chain.family} {chain.table} {chain.name}"
    end = f'accept comment "{comment}"\n'
    if chain.hook == "input":  # a lab asks its host for names only
        return [
            f'{start} iifname "{bridge}" {protocol} dport 53 {end}' for protocol in ("udp", "tcp")
        ]
    return [f'{start} {direction} "{bridge}" {end}' for direction in ("iifname", "oifname")]


def dropping(rules: Sequence[Mapping[str, Any]]) -> tuple[Chain, ...]:
    """The chains of hooks forward and input that drop or reject by default.

    Docker's own chain for additions, DOCKER-USER, stands for the chain that jumps to it: it is
    kept when Docker rewrites its rules.

    Args:
        rules: the list in the JSON of ``nft -j list ruleset`` (libnftables-json(5)).
    """
    found = []
    docker = {
        (c["family"], c["table"])
        for c in (r["chain"] for r in rules if "chain" in r)
        if c["name"] == "DOCKER-USER"
    }
    for chain in (r["chain"] for r in rules if "chain" in r):
        if chain.get("hook") not in ("forward", "input") or chain["family"] not in ("ip", "inet"):
            continue
        own = [
            r["rule"]
            for r in rules
            if "rule" in r
            and (r["rule"]["family"], r["rule"]["table"], r["rule"]["chain"])
            == (chain["family"], chain["table"], chain["name"])
        ]
        last = own[-1]["expr"][-1] if own and own[-1]["expr"] else {}
        conditions = len(own[-1]["expr"]) > 1 if own else True
        ends = any(word in last for word in ("drop", "reject")) and not conditions
        if chain.get("policy") == "drop" or ends:
            name = chain["name"]
            if chain["hook"] == "forward" and (chain["family"], chain["table"]) in docker:
                name = "DOCKER-USER"
            found.append(Chain(chain["family"], chain["table"], name, chain["hook"]))
    return tuple(found)


def commented(rules: Sequence[Mapping[str, Any]], comment: str) -> tuple[Mapping[str, Any], ...]:
    """The rules that bear this comment."""
    return tuple(r["rule"] for r in rules if r.get("rule", {}).get("comment") == comment)


def legacy_drops() -> bool:
    """Whether old-style iptables (which nft does not show) filter on this host."""
    try:
        return "filter" in LEGACY.read_text().split()
    except OSError:
        return False


def _ruleset() -> Sequence[Mapping[str, Any]]:
    out = run("reading this host's packet filter", ["nft", "-j", "list", "ruleset"]).out
    return list(json.loads(out or "{}").get("nftables", []))
