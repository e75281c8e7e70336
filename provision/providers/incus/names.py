"""Names in Incus; all contain the lab's id, because labs of several checkouts share a server."""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Address
from urllib.parse import quote

from provision.core.lab import Lab

LAB_KEY = "user.foobar-lab.lab"
MACHINE_KEY = "user.foobar-lab.machine"
COMPLETE_KEY = "user.foobar-lab.complete"
"""Configuration keys of an instance; the last one is set once all its own files are written."""

IMAGE_PREFIX = "foobar-lab-"


def prefix(lab: Lab) -> str:
    """What the names of all instances of a lab begin with."""
    return f"lab-{lab.id}-"


def instance(lab: Lab, machine: str) -> str:
    """The name of a machine's instance."""
    return prefix(lab) + machine


def instance_path(lab: Lab, machine: str) -> str:
    """The API's path of a machine's instance."""
    return f"/instances/{quote(instance(lab, machine))}"


def network(lab: Lab) -> str:
    """The name of the lab's network, and of its bridge: 12 characters of 15."""
    return f"lab-{lab.id}"


def mac(lab: Lab, address: IPv4Address) -> str:
    """A fixed, locally administered MAC address.

    With a random address, the other machines would keep a stale ARP entry of a restarted one.
    """
    digest = hashlib.sha256(f"{lab.id}/{address}".encode()).hexdigest()
    return ":".join(["02", *(digest[i : i + 2] for i in range(0, 10, 2))])
