"""What the preflight checks need to know about this host. Read only; no packet is sent."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from provision.core.lab import Lab
from provision.providers.routes import source_address
from provision.providers.vagrant import record
from provision.setup import choice, host_os, virtual_machines
from provision.setup.bundle import install as bundle
from provision.setup.host_os import free_mib
from provision.setup.virtual_machines import VirtualMachineFacts, vagrant_home

OWN_BOX = "foobar-lab/debian-13"
"""The box that ``invoke box.build`` builds."""

HOST_ONLY_RANGE = IPv4Network("192.168.56.0/21")
"""Where VirtualBox allows host-only networks by default (its manual, section 6.7, "Host-Only
Networking")."""


@dataclass(frozen=True)
class VagrantHostFacts(VirtualMachineFacts):
    """Facts of this host, also about one lab; the defaults are those of a suitable host.

    Args:
        provider: ``virtualbox`` or ``libvirt``.
        box: whether `OWN_BOX` is installed.
        own_box: whether the lab uses it.
        memory_mib: available; 0 if unknown.
        source: the address from which this host would send to the lab's network.
        ranges: where VirtualBox allows host-only networks.
        created: machines of this lab that exist.
        unpinned: of these, those without a pinned host key: ``lab.up`` never finished.
        orphaned: machines that exist and are no longer in the topology.
        unmanaged: virtual machines with the lab's names that Vagrant does not know.
    """

    provider: str = "virtualbox"
    box: bool = True
    own_box: bool = False
    memory_mib: int = 0
    free_mib: tuple[tuple[str, int], ...] = ()
    source: IPv4Address | None = None
    ranges: tuple[IPv4Network, ...] = (HOST_ONLY_RANGE,)
    created: tuple[str, ...] = ()
    unpinned: tuple[str, ...] = ()
    orphaned: tuple[str, ...] = ()
    unmanaged: tuple[str, ...] = ()


def collect(lab: Lab, provider: str) -> VagrantHostFacts:
    """The facts of this host for one of Vagrant's providers."""
    created, pinned = record.created_machines(lab), record.load(lab)
    own = ("libvirt", *bundle.record(lab.root).get("boxes", ()))
    box = os.environ.get("LAB_BOX", "") or (OWN_BOX if provider in own else "")
    names = [m.name for m in lab.machines]
    host = virtual_machines.collect()
    home = vagrant_home()
    return VagrantHostFacts(
        **vars(host),
        provider=provider,
        box=has_box(OWN_BOX, provider),
        own_box=box == OWN_BOX,
        memory_mib=host_os.available_memory_mib(host.system.kind),
        free_mib=((str(home), free_mib(home)),),
        source=source_address(str(lab.machines[0].address)) if lab.machines else None,
        ranges=parse_ranges(host_os.read_text(Path("/etc/vbox/networks.conf"))),
        created=tuple(n for n in names if n in created),
        unpinned=tuple(n for n in names if n in created and n not in pinned),
        orphaned=tuple(n for n in created if n not in names),
        unmanaged=_unmanaged(lab, provider, {uuid for _, uuid in created.values()}),
    )


def parse_ranges(text: str) -> tuple[IPv4Network, ...]:
    """The networks in VirtualBox's networks.conf: lines such as ``* 10.0.0.0/8 192.168.0.0/16``."""
    ranges = []
    for line in text.splitlines():
        if line.strip().startswith("*"):
            for word in line.strip()[1:].split():
                with contextlib.suppress(ValueError):
                    ranges.append(IPv4Network(word, strict=False))
    return tuple(ranges) or (HOST_ONLY_RANGE,)


def unmanaged_machines(
    names: Sequence[str], listing: str, prefix: str, managed: set[str]
) -> list[str]:
    """Virtual machines that are named like the lab's, after the prefix, and are not Vagrant's.

    Args:
        listing: of ``VBoxManage list vms`` or ``virsh list --all --uuid --name``: a name and a
            UUID per line, in either order.
        managed: the UUIDs that Vagrant knows.
    """
    result = []
    for line in listing.splitlines():
        uuid = re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", line)
        if uuid is None or uuid.group() in managed:
            continue
        name = line.replace(uuid.group(), "").strip(' "{}')
        rest = name.removeprefix(prefix)
        if name != rest and any(rest == n or re.fullmatch(rf"{n}_\d+_\d+", rest) for n in names):
            result.append(name)
    return result


def _unmanaged(lab: Lab, provider: str, managed: set[str]) -> tuple[str, ...]:
    vboxmanage = choice.find_vboxmanage() if provider == "virtualbox" else None
    if provider == "virtualbox" and vboxmanage:
        argv, prefix = [vboxmanage, "list", "vms"], f"{lab.root.name}_"
    elif provider == "libvirt" and shutil.which("virsh"):
        argv = ["virsh", "-c", "qemu:///system", "list", "--all", "--uuid", "--name"]
        prefix = f"foobar-lab-{lab.id}-"
    else:
        return ()
    names = [m.name for m in lab.machines]
    return tuple(unmanaged_machines(names, host_os.output_of(argv), prefix, managed))


def has_box(name: str, provider: str) -> bool:
    """Whether a box is installed; Vagrant 2.4 has an additional folder for the architecture."""
    folder = vagrant_home() / "boxes" / name.replace("/", "-VAGRANTSLASH-")
    return any(folder.glob(f"*/{provider}")) or any(folder.glob(f"*/*/{provider}"))
