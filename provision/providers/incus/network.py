"""A lab's network: a bridge of Incus, and this computer's route to it.

In a cluster, the network exists on every member, as Incus requires, with a bridge of its own on
each. All machines of a lab are on one member, so no packet of a lab passes between members.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from urllib.parse import quote

from provision.core.errors import ProviderError
from provision.core.lab import Lab
from provision.providers.incus import names
from provision.providers.incus.client import IncusClient
from provision.providers.incus.placement import (
    NETWORK_MACHINES_KEY,
    NETWORK_MEMBER_KEY,
    Member,
)
from provision.providers.incus.record import LabRecord
from provision.providers.routes import source_address
from provision.setup.system import SYSTEMS

ROUTES = Path("/proc/net/route")
PROJECT = {"project": "default"}
"""Bridges belong to this project, whatever project the machines are in."""


def config(lab: Lab, member: str) -> dict[str, str]:
    """The configuration of the lab's network."""
    return {
        "ipv4.address": f"{lab.gateway}/{lab.network.prefixlen}",
        "ipv4.nat": "true",
        "ipv4.dhcp": "false",  # addresses are in the machines' configuration
        "ipv6.address": "none",
        names.LAB_KEY: lab.name,
        NETWORK_MACHINES_KEY: str(len(lab.machines)),
        **({NETWORK_MEMBER_KEY: member} if member else {}),
    }


def create(client: IncusClient, lab: Lab, members: Sequence[Member], member: str) -> None:
    """Create the network, unless it exists.

    Raises:
        ProviderError: when Incus refuses it, or it exists with another address.
    """
    name = names.network(lab)
    path = f"/networks/{quote(name)}"
    wanted = config(lab, member)
    if client.exists(path, **PROJECT):
        present = client.get(path, **PROJECT)
        if present.get("status") == "Created":
            existing = present.get("config") or {}
            address = existing.get("ipv4.address")
            if address != wanted["ipv4.address"]:
                raise ProviderError(
                    f"the network {name} of Incus has the address {address}, and lab {lab.name} "
                    f"needs {wanted['ipv4.address']}",
                    "invoke lab.destroy, then invoke lab.up",
                )
            if wanted.items() - existing.items():  # Incus refuses it while a member is down
                client.patch(path, {"config": wanted}, **PROJECT)
            return
        client.delete(path, **PROJECT)  # of an interrupted attempt
    down = [m for m in members if not m.online]
    if down:
        raise ProviderError(
            f"a new network needs every member of the Incus cluster, and {down[0].name} is "
            f"offline ({down[0].message})",
            "start it; if it is lost for good: incus cluster remove --force "
            f"{client.remote.prefix}{down[0].name}",
        )
    body = {"name": name, "type": "bridge", "description": f"lab {lab.name} of {lab.root}"}
    for each in members:
        client.post("/networks", body, target=each.name, **PROJECT)
    client.post("/networks", {**body, "config": wanted}, **PROJECT)


def remove(client: IncusClient, lab: Lab) -> None:
    """Remove the network. Idempotent."""
    client.delete(f"/networks/{quote(names.network(lab))}", **PROJECT)


def users(client: IncusClient, lab: Lab) -> list[str]:
    """Other networks of the server that overlap the lab's own."""
    overlapping = []
    for row in client.get("/networks", recursion="1", **PROJECT):
        text = (row.get("config") or {}).get("ipv4.address", "")
        if row["name"] == names.network(lab) or "/" not in text:
            continue
        if IPv4Network(text, strict=False).overlaps(lab.network):
            overlapping.append(f"{row['name']} ({text})")
    return overlapping


def next_hop(client: IncusClient, member: Member | None, server_name: str) -> str:
    """The address that this computer's packets for the lab go through; empty when none is needed.

    Args:
        server_name: of the member that answers requests.

    Raises:
        ProviderError: when the server's name cannot be resolved.
    """
    if client.remote.socket and (member is None or member.name == server_name):
        return ""
    host = member.address if member else client.remote.host
    try:
        return socket.gethostbyname(host)
    except OSError as error:
        raise ProviderError(f"{host} cannot be resolved: {error}", f"ping {host}") from None


def targets(lab: Lab, *, bridge_here: bool) -> tuple[IPv4Network, ...]:
    """What is routed to the lab's member.

    Args:
        bridge_here: this computer is another member, and has a bridge with the same network: only
            routes to single addresses precede it.
    """
    if not bridge_here:
        return (lab.network,)
    addresses = [m.address for m in lab.machines]
    if lab.topology.virtual_address:
        addresses.append(lab.topology.virtual_address)
    return tuple(IPv4Network(address) for address in addresses)


def route(lab: Lab, record: LabRecord) -> None:
    """Add this computer's routes to the lab's machines.

    Raises:
        ProviderError: when they cannot be added here; with the command that does it.
    """
    if not record.via or not problem(lab, record):
        return
    system = SYSTEMS.get(sys.platform, "Linux")
    if system != "Linux":
        raise ProviderError(
            f"this computer has no route to {lab.network}", route_command(lab, record, system)
        )
    from provision.providers.lxc.privileged import run

    for target in targets(lab, bridge_here=_is_local(lab.gateway)):
        words = ["ip", "route", "replace", str(target), "via", record.via]
        run(f"routing {target} to {record.member or record.remote}", words)


def unroute(lab: Lab, record: LabRecord) -> None:
    """Remove this computer's routes to the lab. Idempotent."""
    if not record.via or SYSTEMS.get(sys.platform, "Linux") != "Linux":
        return
    from provision.providers.lxc.privileged import run

    present = routes()
    for target in targets(lab, bridge_here=_is_local(lab.gateway)):
        if present.get(target) == record.via:
            words = ["ip", "route", "delete", str(target), "via", record.via]
            run(f"removing the route to {target}", words, ok=())


def route_command(lab: Lab, record: LabRecord, system: str) -> str:
    """What adds a route on another operating system."""
    if system == "macOS":
        return f"sudo route -n add -net {lab.network} {record.via}"
    address, mask = lab.network.network_address, lab.network.netmask
    return f"as administrator: route add {address} mask {mask} {record.via}"


def problem(lab: Lab, record: LabRecord) -> str:
    """Why packets for the lab would not reach it, or empty. No packet is sent."""
    if not record.via:
        source = source_address(str(lab.front.address))
        if source == lab.gateway:
            return ""
        return f"{lab.front.address} is routed from {source}, not over {names.network(lab)}"
    where = f"{record.member or record.remote.host} ({record.via})"
    if SYSTEMS.get(sys.platform, "Linux") == "Linux":
        present = routes()
        for target in targets(lab, bridge_here=_is_local(lab.gateway)):
            if present.get(target) != record.via:
                return f"this computer has no route for {target} through {where}"
        return ""
    source, other = (source_address(a) for a in (str(lab.front.address), record.via))
    if source is None or source != other:
        return f"this computer has no route for {lab.network} through {where}"
    return ""


def routes(file: Path = ROUTES) -> dict[IPv4Network, str]:
    """The next hops of this computer's routes that have one (``/proc/net/route``)."""
    found = {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()[1:]
    except OSError:
        return {}
    for columns in (line.split() for line in lines):
        target, gateway, mask = (_address(columns[i]) for i in (1, 2, 7))
        if int(gateway):
            network = IPv4Network((target, int(mask).bit_count()), strict=False)
            found[network] = str(gateway)
    return found


def _address(text: str) -> IPv4Address:
    return IPv4Address(int(text, 16).to_bytes(4, sys.byteorder))


def _is_local(address: IPv4Address) -> bool:
    """Whether an address is this computer's own."""
    return source_address(str(address)) == address
