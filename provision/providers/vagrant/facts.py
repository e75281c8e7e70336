"""What a host says of itself that matters to Vagrant: asking.py gathers, preflight.py judges it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

OWN_BOX = "foobar-lab/debian-13"
HOST_ONLY = IPv4Network("192.168.56.0/21")
"""Where VirtualBox allows host-only networks unless /etc/vbox/networks.conf says otherwise (its
manual, section 6.7, "Host-Only Networking")."""


@dataclass(frozen=True)
class Facts:
    """What this host says of itself.

    Args:
        system: ``Linux``, ``macOS`` or ``Windows``.
        arch: of the processor, such as ``x86_64`` or ``arm64``.
        provider: Vagrant's provider that is meant: ``virtualbox`` or ``libvirt``.
        vagrant: its version, or empty.
        virtualbox: its version, or empty.
        driver: whether VirtualBox's kernel driver is there (Linux).
        virtualisation: whether the processor offers it to us; None when that cannot be told.
        hypervisor: whether another hypervisor (Hyper-V) has the processor.
        plugin: whether vagrant-libvirt is installed.
        libvirt: whether libvirt runs and lets us in.
        kvm: whether KVM works.
        box: whether our own box is there.
        own_box: whether our own box is the one that is needed.
        memory: MiB that are available; 0 when that cannot be told.
        free: MiB that are free, by folder.
        source: the address from which this host would send to the lab's network.
        ranges: where VirtualBox allows host-only networks, as the administrator says.
        made: machines of this lab that exist.
        unknown: of these, those that were never up (a failed attempt left them).
        strays: machines that exist and are not in the topology any more.
        others: virtual machines that have our names and that Vagrant does not know.
    """

    system: str = "Linux"
    arch: str = "x86_64"
    provider: str = "virtualbox"
    vagrant: str = "2.4.9"
    virtualbox: str = "7.2.0"
    driver: bool = True
    virtualisation: bool | None = True
    hypervisor: bool = False
    plugin: bool = True
    libvirt: bool = True
    kvm: bool = True
    box: bool = True
    own_box: bool = False
    memory: int = 0
    free: tuple[tuple[str, int], ...] = ()
    source: IPv4Address | None = None
    ranges: tuple[IPv4Network, ...] = (HOST_ONLY,)
    made: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
