"""Whether a lab can be made on an Incus server. Nothing is changed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from provision.core.classroom import limits_of
from provision.core.errors import LabError, ProviderError, UsageError, not_among
from provision.core.lab import Lab
from provision.providers.base import PreflightProblem
from provision.providers.incus import limits, network, placement, record
from provision.providers.incus.client import IncusClient
from provision.providers.routes import source_address
from provision.setup.system import SYSTEMS
from provision.topology.networks import ROUTES, parse_routes


def problems(lab: Lab) -> list[PreflightProblem]:
    """What prevents the lab from running, and warnings."""
    try:
        existing = record.load(lab)
        client = IncusClient(record.remote_of(lab))
        client.server()
        storage_pool(client)
        members = placement.members(client)
        if existing is None:
            placement.choose(client, members)
    except LabError as error:
        return [PreflightProblem.of(error)]
    return [
        *_networks(lab, client, existing),
        *_members(members, client.remote.prefix),
        *_limits(lab),
        *_firewall(lab, client),
    ]


def storage_pool(client: IncusClient) -> str:
    """The pool for the machines' disks: LAB_INCUS_POOL, else ``default``, else the only one.

    Raises:
        UsageError: when LAB_INCUS_POOL names none.
        ProviderError: when there is none, or several.
    """
    pools = [row["name"] for row in client.get("/storage-pools", recursion="1")]
    wanted = os.environ.get("LAB_INCUS_POOL", "")
    if wanted and wanted not in pools:
        what = f"Incus at {client.remote} has no storage pool {wanted!r}"
        create = f"incus storage create {client.remote.prefix}{wanted} btrfs"
        raise not_among(what, wanted, pools, f"; {create}") if pools else UsageError(what, create)
    if wanted or "default" in pools:
        return wanted or "default"
    if len(pools) == 1:
        return str(pools[0])
    if not pools:
        raise ProviderError(
            f"Incus at {client.remote} has no storage pool",
            f"incus storage create {client.remote.prefix}default btrfs (or the driver dir)",
        )
    raise ProviderError(
        f"Incus at {client.remote} has several storage pools, and none is called default",
        f"LAB_INCUS_POOL=NAME, one of {', '.join(sorted(pools))}",
    )


def _networks(
    lab: Lab, client: IncusClient, existing: record.LabRecord | None
) -> Iterator[PreflightProblem]:
    users = network.users(client, lab)
    here = source_address(str(lab.gateway)) == lab.gateway  # the bridge of another member
    if existing is None and SYSTEMS.get(sys.platform, "Linux") == "Linux" and not here:
        own = parse_routes(ROUTES.read_text(encoding="utf-8"))
        users += [f"this computer's route to {n}" for n in own if n.overlaps(lab.network)]
    if users:
        yield PreflightProblem(
            f"the network {lab.network} is already in use: {', '.join(dict.fromkeys(users))}",
            "choose another one: --network 10.56.0.0/24",
        )


def _members(members: tuple[placement.Member, ...], prefix: str) -> Iterator[PreflightProblem]:
    for member in members:
        if not member.online:
            yield PreflightProblem(
                f"member {member.name} of the Incus cluster is offline ({member.message})",
                "start it; if it is lost for good: incus cluster remove --force "
                f"{prefix}{member.name}",
                fatal=False,
            )


def _limits(lab: Lab) -> Iterator[PreflightProblem]:
    if limits_of(lab).cpu > limits.FULL_SHARE:
        yield PreflightProblem(
            f"the limit cpu: {limits_of(lab).cpu} is more than {limits.FULL_SHARE}, which is an "
            "instance's share in Incus without a limit",
            f"give the other labs less instead: a value from 1 to {limits.FULL_SHARE}",
        )


def _firewall(lab: Lab, client: IncusClient) -> Iterator[PreflightProblem]:
    """Behind a route, this computer does not have the gateway's address."""
    own = source_address(client.remote.host) if client.remote.host else None
    if own is None or not any("firewall" in machine.roles for machine in lab.machines):
        return
    if not any(own in network for network in lab.topology.ssh_from):
        yield PreflightProblem(
            f"the machines' firewalls let only {lab.gateway} reach sshd, and this computer has "
            f"the address {own}",
            f"in the topology: ssh_from: [{own}]",
        )
