"""Placement of labs in a cluster: one member runs all machines of a lab, and their bridge."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from provision.core.errors import ProviderError, UsageError, not_among
from provision.providers.incus import remote
from provision.providers.incus.client import IncusClient

POLICIES = ("fewest", "memory")
"""LAB_INCUS_PLACEMENT: the member with the fewest instances (default), or most free memory."""

MIB = 2**20

NETWORK_MEMBER_KEY = "user.foobar-lab.member"
"""Of a lab's network: its member, which counts before its machines exist."""

NETWORK_MACHINES_KEY = "user.foobar-lab.machines"


@dataclass(frozen=True)
class Member:
    """A member of a cluster.

    Args:
        message: of Incus, such as when it was last heard of.
    """

    name: str
    address: str
    online: bool
    message: str = ""


def members(client: IncusClient) -> tuple[Member, ...]:
    """The members of the cluster, by name; none for a single server."""
    if not client.get("/cluster").get("enabled"):
        return ()
    rows = client.get("/cluster/members", recursion="1")
    return tuple(
        Member(
            row["server_name"],
            urlsplit(row["url"]).hostname or "",
            row["status"] == "Online",
            row.get("message", ""),
        )
        for row in sorted(rows, key=lambda row: str(row["server_name"]))
    )


def choose(
    client: IncusClient, candidates: Sequence[Member], environ: Mapping[str, str] = os.environ
) -> Member | None:
    """The member for a new lab; None for a single server.

    LAB_INCUS_MEMBER names the members that may be used, separated by commas.

    Raises:
        UsageError: when an option is invalid.
        ProviderError: when no member can be used.
    """
    policy = environ.get("LAB_INCUS_PLACEMENT", "") or POLICIES[0]
    if policy not in POLICIES:
        raise not_among(f"LAB_INCUS_PLACEMENT is {policy!r}", policy, POLICIES)
    wanted = [n.strip() for n in environ.get("LAB_INCUS_MEMBER", "").split(",") if n.strip()]
    names = [member.name for member in candidates]
    for name in wanted:
        if name not in names:
            if not names:
                raise UsageError(
                    f"LAB_INCUS_MEMBER is {name!r}, and {client.remote} is not a cluster",
                    "unset LAB_INCUS_MEMBER",
                )
            raise not_among(f"no member {name!r} in the cluster", name, names)
    if not candidates:
        return None
    usable = [m for m in candidates if m.online and (m.name in wanted or not wanted)]
    if not usable:
        lines = "; ".join(f"{m.name}: {m.message}" for m in candidates if not m.online)
        raise ProviderError(
            f"no member of the Incus cluster can take a lab ({lines})",
            f"incus cluster list {client.remote.prefix}".rstrip(),
        )
    if policy == "memory":
        free = {m.name: available_memory(client, m.name) for m in usable}
        return max(usable, key=lambda m: free[m.name])
    load = instances_by_member(client)
    return min(usable, key=lambda m: (load[m.name], m.name))


def available_memory(client: IncusClient, member: str = "") -> int:
    """Bytes of memory that are available on a member, or on the single server."""
    target = {"target": member} if member else {}
    facts = client.get("/resources", **target).get("memory") or {}
    return max(0, int(facts.get("total") or 0) - int(facts.get("used") or 0))


def instances_by_member(client: IncusClient) -> Counter[str]:
    """How many instances each member has or is about to get, in all projects."""
    load: Counter[str] = Counter()
    rows = client.get("/instances", recursion="1", **{"all-projects": "true", "project": ""})
    own = [row for row in rows if row["name"].startswith("lab-")]
    load.update(row["location"] for row in rows if row not in own)
    counted: Counter[str] = Counter("-".join(row["name"].split("-")[:2]) for row in own)
    locations = {"-".join(row["name"].split("-")[:2]): row["location"] for row in own}
    for network in client.get("/networks", recursion="1", project="default"):
        config = network.get("config") or {}
        if NETWORK_MEMBER_KEY in config:
            planned = int(config.get(NETWORK_MACHINES_KEY) or 0)
            locations[network["name"]] = config[NETWORK_MEMBER_KEY]
            counted[network["name"]] = max(planned, counted[network["name"]])
    for name, location in locations.items():
        load[location] += counted[name]
    return load


def available_mib() -> tuple[int, ...]:
    """MiB of memory available on each member that is online, or on the single server.

    Raises:
        LabError: when the server that the environment asks for cannot be used.
    """
    client = IncusClient(remote.requested())
    client.server()
    names = [member.name for member in members(client) if member.online]
    return tuple(available_memory(client, name) // MIB for name in names or [""])
