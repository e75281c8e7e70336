"""Choose the network of a lab: the recorded one, the one asked for, or a free one."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from ipaddress import IPv4Network
from pathlib import Path

from provision.core import classroom
from provision.core import state as states
from provision.core.errors import LabError, UsageError
from provision.core.lab import DEFAULT_LAB, Lab
from provision.core.state import State
from provision.topology.values import parse_network

POOL = IPv4Network("192.168.56.0/21")
"""Networks of labs: VirtualBox allows host-only networks only here by default (its manual, 6.7)."""

HOST = Path("/var/lib/foobar-lab")
"""Labs of all checkouts on this host record their network here, in ``*/network``."""

ROUTES = Path("/proc/net/route")


def choose_network(
    lab: Lab, state: State | None, option: str | None, keep_addresses: bool
) -> IPv4Network:
    """The network of a lab.

    Args:
        lab: on the topology's own network.
        option: the text of ``--network``.
        keep_addresses: use the topology's own network, for machines that exist already.

    Raises:
        UsageError: when the option is invalid, or contradicts the recorded network.
        LabError: when no network is free.
    """
    own = lab.topology.network
    requested = _parse_option(option, lab)
    if state is not None and state.network:
        recorded = IPv4Network(state.network)
        if requested is not None and requested != recorded:
            raise UsageError(
                f"lab {lab.name} is on {recorded}; its machines cannot move to {requested}",
                f"invoke lab.destroy, then give --network {requested}",
            )
        _require_space(recorded, lab, "invoke lab.destroy")
        return recorded
    if requested is not None:
        for other, network in recorded_networks(lab).items():
            if requested.overlaps(network):
                raise UsageError(
                    f"the network {requested} overlaps {network}, which lab {other} uses",
                    "omit --network to get a free one",
                )
        return requested
    if keep_addresses or any(machine.ssh for machine in lab.machines):
        return own
    existing = _read_network(HOST / lab.id / "network")
    if existing is not None and existing.prefixlen <= own.prefixlen:
        return existing  # the machines still exist, only the lab's state is lost
    if lab.name == DEFAULT_LAB:
        return own
    of_team = class_networks(lab.root).get(lab.name)
    if of_team is not None and of_team.prefixlen <= own.prefixlen:
        return of_team
    # The topology's own network is reserved for the default lab, which may be created later.
    free = free_network([own, *used_networks(lab)])
    return IPv4Network((free.network_address, own.prefixlen))


def _parse_option(option: str | None, lab: Lab) -> IPv4Network | None:
    if not option:
        return None
    network, problem = parse_network(option)
    if network is None or problem:
        raise UsageError(f"--network: {problem}", "such as --network 192.168.60.0/24")
    example = f"such as --network {network.network_address}/{lab.network.prefixlen}"
    _require_space(network, lab, example)
    return network


def _require_space(network: IPv4Network, lab: Lab, hint: str) -> None:
    """Refuse a network that is smaller than the topology's own."""
    prefixlen = lab.topology.network.prefixlen
    if network.prefixlen > prefixlen:
        raise UsageError(
            f"the network {network} is too small for the topology {lab.topology.name}, which "
            f"needs a /{prefixlen}",
            hint,
        )


def free_network(used: Iterable[IPv4Network]) -> IPv4Network:
    """The first /24 of `POOL` that overlaps no used network.

    Raises:
        LabError: when there is none.
    """
    used = list(used)
    for candidate in POOL.subnets(new_prefix=24):
        if not any(candidate.overlaps(network) for network in used):
            return candidate
    raise LabError(
        f"no part of {POOL} is free for another lab",
        "remove a lab (invoke lab.destroy --lab NAME), or give --network 10.20.30.0/24",
    )


def used_networks(lab: Lab) -> tuple[IPv4Network, ...]:
    """Networks on this host that are used by other labs of any checkout, or by routes."""
    networks = list(recorded_networks(lab).values())
    networks += [n for n in map(_read_network, sorted(HOST.glob("*/network"))) if n is not None]
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            networks += parse_routes(ROUTES.read_text(encoding="utf-8"))
    return tuple(networks)


def recorded_networks(lab: Lab) -> dict[str, IPv4Network]:
    """The networks of the checkout's other labs, by lab; damaged states are skipped.

    Those of a class's labs count also before they are brought up.
    """
    networks = {n: v for n, v in class_networks(lab.root).items() if n != lab.name}
    for name in states.lab_names(lab.root):
        try:
            state = states.load(lab.root / ".lab" / name) if name != lab.name else None
        except LabError:
            continue
        if state is not None and state.network:
            networks[name] = IPv4Network(state.network)
    return networks


def class_networks(root: Path) -> dict[str, IPv4Network]:
    """The networks of a class's labs, by lab."""
    with contextlib.suppress(LabError):
        record = classroom.load(root)
        if record is not None:
            return {team.lab: IPv4Network(team.network) for team in record.teams}
    return {}


def _read_network(path: Path) -> IPv4Network | None:
    """The network in a file of `HOST`; None if invalid (if it is up, its route is found)."""
    try:
        return IPv4Network(path.read_text(encoding="utf-8").strip(), strict=False)
    except (OSError, ValueError):
        return None


def parse_routes(text: str) -> tuple[IPv4Network, ...]:
    """The networks in ``/proc/net/route``, without default routes.

    Addresses are big-endian words, printed as integers of this processor. Routes wider than /8
    count as default routes: a VPN splits its own into two halves, which a lab's route overrides.
    """
    networks = []
    for line in text.splitlines()[1:]:
        columns = line.split()
        if len(columns) < 8:
            continue
        try:
            target, mask = (int(columns[i], 16).to_bytes(4, sys.byteorder) for i in (1, 7))
            network = IPv4Network((target, int.from_bytes(mask, "big").bit_count()), strict=False)
        except (ValueError, OverflowError):
            continue
        if network.prefixlen >= 8:
            networks.append(network)
    return tuple(networks)
