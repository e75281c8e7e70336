"""Parse a whole topology: its top-level keys, then the rules between machines."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from provision.core.lab import HSTS_AGE, Balance, Topology
from provision.core.limits import Limits
from provision.core.suggestions import listed
from provision.topology import values
from provision.topology.checker import Checker
from provision.topology.limits import parse_limits
from provision.topology.machines import MachineDraft, parse_address, parse_machines
from provision.topology.nodes import Node

EXAMPLES = {
    "domain": "'domain: foobar.com'",
    "network": "'network: 192.168.56.0/24'",
    "machines": "'machines:' with one stanza per machine",
}
"""The required keys."""

KEYS = (
    "domain",
    "network",
    "virtual_address",
    "https",
    "hsts_age",
    "ssh_from",
    "autopromote",
    "balance",
    "primary",
    "limits",
    "machines",
)


HSTS_LONGEST = 10 * 365 * 86400
"""Seconds; browsers that preload a site want one or two years."""


@dataclass
class TopologyDraft:
    """The valid values of a topology.

    Args:
        line: of the first key.
        lines: of the value of every key that is present.
    """

    line: int
    lines: dict[str, int]
    domain: str | None = None
    network: IPv4Network | None = None
    balance: Balance | None = None
    primary: str | None = None
    https: bool = False
    hsts_age: int = HSTS_AGE
    limits: Limits = field(default_factory=Limits)
    autopromote: bool = False
    ssh_from: list[IPv4Network] = field(default_factory=list)
    virtual_address: IPv4Address | None = None
    machines: list[MachineDraft] = field(default_factory=list)


def parse_document(check: Checker, node: Node) -> TopologyDraft | None:
    """The single values of a topology; None if it is not a mapping."""
    if node.kind == "null":
        check.error(1, "", f"the file is empty; expected the keys {listed(KEYS)}")
        return None
    if not check.mapping(node, "", "'domain: foobar.com'"):
        return None
    entries = check.keys(node, "", KEYS)
    draft = TopologyDraft(node.line, {key: value.line for key, _, value in reversed(entries)})
    for key, example in EXAMPLES.items():
        if key not in draft.lines:
            check.error(node.line, key, f"missing key; expected {example}")
    # Addresses are checked against the network.
    entries.sort(key=lambda entry: entry[0] != "network")
    for key, _, value in entries:
        _parse_key(check, draft, key, value)
    return draft


def _parse_key(check: Checker, draft: TopologyDraft, key: str, node: Node) -> None:
    match key:
        case "domain":
            draft.domain = draft.domain or _parse_domain(check, node)
        case "network":
            draft.network = draft.network or _parse_network(check, node)
        case "balance":
            draft.balance = draft.balance or _parse_balance(check, node)
        case "primary":
            draft.primary = draft.primary or _parse_primary(check, node)
        case "https":
            draft.https = check.boolean(node, key)
        case "hsts_age":
            age = check.integer(node, key, (0, HSTS_LONGEST), "seconds")
            draft.hsts_age = draft.hsts_age if age is None else age
        case "limits":
            draft.limits = parse_limits(check, node, key).over(draft.limits)
        case "autopromote":
            draft.autopromote = check.boolean(node, key)
        case "ssh_from":
            draft.ssh_from += _parse_sources(check, node)
        case "virtual_address":
            draft.virtual_address = parse_address(check, node, key, draft.network)
        case "machines":
            if check.mapping(node, key, "'web-01: {address: …, roles: […]}'"):
                draft.machines += parse_machines(check, node, draft.network)


def _parse_domain(check: Checker, node: Node) -> str | None:
    text = check.string(node, "domain", "foobar.com")
    if text is None:
        return None
    labels = text.split(".")
    if len(labels) < 2 or len(text) > 249 or not all(map(values.LABEL.fullmatch, labels)):
        expected = "a domain of two or more labels of a-z, 0-9 and '-', such as foobar.com"
        check.invalid(node, "domain", expected)
        return None
    return text


def _parse_network(check: Checker, node: Node) -> IPv4Network | None:
    text = check.string(node, "network", "192.168.56.0/24")
    if text is None:
        return None
    network, problem = values.parse_network(text)
    if problem:
        check.error(node.line, "network", problem)
    return network


def _parse_balance(check: Checker, node: Node) -> Balance | None:
    if not check.mapping(node, "balance", "'algorithm: roundrobin'"):
        return None
    settings = {"algorithm": Balance.algorithm, "mode": Balance.mode}
    choices = {"algorithm": values.ALGORITHMS, "mode": values.MODES}
    for key, _, value in check.keys(node, "balance", tuple(choices)):
        chosen = check.choice(value, f"balance.{key}", choices[key], key)
        settings[key] = chosen or settings[key]
    return Balance(settings["algorithm"], settings["mode"])


def _parse_primary(check: Checker, node: Node) -> str | None:
    if node.kind == "list":
        names = ", ".join(item.text for item in node.items) or "empty"
        what = f"only one machine can be primary (list: {names}); the others are replicas"
        check.error(node.line, "primary", what)
        return None
    return check.string(node, "primary", "web-01")


def _parse_sources(check: Checker, node: Node) -> list[IPv4Network]:
    """The networks and addresses of ``ssh_from``."""
    example = "[192.168.56.1] or [10.0.0.0/8]"
    if not check.list(node, "ssh_from", example):
        return []
    networks = []
    for index, item in enumerate(node.items):
        place = f"ssh_from[{index}]"
        text = check.string(item, place, "192.168.56.0/24")
        try:
            networks += [] if text is None else [IPv4Network(text)]
        except ValueError:
            check.invalid(item, place, f"an IPv4 address or network, such as {example}")
    return networks


def build_topology(draft: TopologyDraft, path: Path) -> Topology | None:
    """The topology of a draft without errors."""
    machines = tuple(m for d in draft.machines if (m := d.machine()) is not None)
    if draft.domain is None or draft.network is None:
        return None
    return Topology(
        path.stem,
        draft.domain,
        draft.network,
        machines,
        draft.primary or "",
        draft.balance or Balance(),
        path,
        https=draft.https,
        hsts_age=draft.hsts_age,
        limits=draft.limits,
        ssh_from=tuple(draft.ssh_from),
        virtual_address=draft.virtual_address,
        autopromote=draft.autopromote,
    )
