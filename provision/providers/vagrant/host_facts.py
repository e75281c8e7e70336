"""What the preflight checks need to know about this host. Read only; no packet is sent."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from provision.core.lab import Lab
from provision.providers import choice
from provision.providers.files import free_mib
from provision.providers.routes import source_address
from provision.providers.vagrant import host_os, record

OWN_BOX = "foobar-lab/debian-13"
"""The box that ``invoke box.build`` builds."""

HOST_ONLY_RANGE = IPv4Network("192.168.56.0/21")
"""Where VirtualBox allows host-only networks by default (its manual, section 6.7, "Host-Only
Networking")."""


@dataclass(frozen=True)
class VagrantHostFacts:
    """Facts of this host; the defaults are those of a suitable one.

    Args:
        system: ``Linux``, ``macOS`` or ``Windows``.
        arch: such as ``x86_64`` or ``arm64``.
        provider: ``virtualbox`` or ``libvirt``.
        vagrant, virtualbox: versions, or empty.
        driver: whether VirtualBox's kernel driver is loaded (Linux).
        virtualization: whether the processor supports it; None if unknown.
        hypervisor: whether another hypervisor (Hyper-V) is active.
        plugin: whether vagrant-libvirt is installed.
        libvirt: whether it runs and the user may use it.
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

    system: str = "Linux"
    arch: str = "x86_64"
    provider: str = "virtualbox"
    vagrant: str = "2.4.9"
    virtualbox: str = "7.2.0"
    driver: bool = True
    virtualization: bool | None = True
    hypervisor: bool = False
    plugin: bool = True
    libvirt: bool = True
    kvm: bool = True
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
    system = choice.SYSTEMS.get(sys.platform, "Linux")
    created, pinned = record.created_machines(lab), record.load(lab)
    box = os.environ.get("LAB_BOX", "") or (OWN_BOX if provider == "libvirt" else "")
    names = [m.name for m in lab.machines]
    version = host_os.output_of(["vagrant", "--version"]).strip().removeprefix("Vagrant ")
    vboxmanage = choice.find_vboxmanage() if provider == "virtualbox" else None
    home = vagrant_home()
    return VagrantHostFacts(
        system=system,
        arch=platform.machine().lower(),
        provider=provider,
        vagrant=version,
        virtualbox=host_os.output_of([vboxmanage, "--version"]).strip() if vboxmanage else "",
        driver=system != "Linux" or Path("/dev/vboxdrv").exists(),
        virtualization=host_os.virtualization(system),
        hypervisor=system == "Windows"
        and "True" in host_os.windows_value("ComputerSystem", "HypervisorPresent"),
        plugin=choice.has_libvirt_plugin(),
        libvirt=any(os.access(path, os.W_OK) for path in choice.LIBVIRT_SOCKETS),
        kvm=system == "Linux" and choice.kvm_works(),
        box=has_box(OWN_BOX, provider),
        own_box=box == OWN_BOX,
        memory_mib=host_os.available_memory_mib(system),
        free_mib=((str(home), free_mib(home)),),
        source=source_address(str(lab.machines[0].address)) if lab.machines else None,
        ranges=parse_ranges(host_os.read_text(Path("/etc/vbox/networks.conf"))),
        created=tuple(n for n in names if n in created),
        unpinned=tuple(n for n in names if n in created and n not in pinned),
        orphaned=tuple(n for n in created if n not in names),
        unmanaged=_unmanaged(lab, provider, vboxmanage, {uuid for _, uuid in created.values()}),
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


def _unmanaged(
    lab: Lab, provider: str, vboxmanage: str | None, managed: set[str]
) -> tuple[str, ...]:
    if provider == "virtualbox" and vboxmanage:
        argv, prefix = [vboxmanage, "list", "vms"], f"{lab.root.name}_"
    elif provider == "libvirt" and shutil.which("virsh"):
        argv = ["virsh", "-c", "qemu:///system", "list", "--all", "--uuid", "--name"]
        prefix = f"foobar-lab-{lab.id}-"
    else:
        return ()
    names = [m.name for m in lab.machines]
    return tuple(unmanaged_machines(names, host_os.output_of(argv), prefix, managed))


def vagrant_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Vagrant's home folder, which contains the boxes."""
    return Path(environ.get("VAGRANT_HOME") or "~/.vagrant.d").expanduser()


def has_box(name: str, provider: str) -> bool:
    """Whether a box is installed; Vagrant 2.4 has an additional folder for the architecture."""
    folder = vagrant_home() / "boxes" / name.replace("/", "-VAGRANTSLASH-")
    return any(folder.glob(f"*/{provider}")) or any(folder.glob(f"*/*/{provider}"))
