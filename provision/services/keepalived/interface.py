"""What other services use of keepalived: the network interface that carries the shared address."""

from __future__ import annotations

from provision.engine.context import Context

SERVICE = "keepalived.service"
INTERFACES = {"lxc": "eth0", "incus": "eth0"}
"""The lab's network interface by provider; on Vagrant's machines eth0 is Vagrant's own."""


def network_interface(context: Context) -> str:
    """The network interface of the virtual address."""
    return INTERFACES.get(context.state.provider, "eth1")
