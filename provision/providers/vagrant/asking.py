"""Asks a host what `facts.Facts` holds: nothing is changed, and nothing is sent."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network
from pathlib import Path

from provision.core.lab import Lab
from provision.providers import choice
from provision.providers.routes import source_for
from provision.providers.vagrant import computer, record
from provision.providers.vagrant.facts import HOST_ONLY, OWN_BOX, Facts


def gather(lab: Lab, provider: str) -> Facts:
    """Ask this host; nothing is changed and nothing is sent."""
    system = choice.SYSTEMS.get(sys.platform, "Linux")
    made, known = record.made(lab), record.load(lab)
    own = os.environ.get("LAB_BOX", "") or (OWN_BOX if provider == "libvirt" else "")
    names = [m.name for m in lab.machines]
    version = computer.said(["vagrant", "--version"]).strip().removeprefix("Vagrant ")
    manager = choice.vboxmanage() if provider == "virtualbox" else None
    return Facts(
        system=system,
        arch=platform.machine().lower(),
        provider=provider,
        vagrant=version,
        virtualbox=computer.said([manager, "--version"]).strip() if manager else "",
        driver=system != "Linux" or Path("/dev/vboxdrv").exists(),
        virtualisation=computer.virtualisation(system),
        hypervisor=system == "Windows"
        and "True" in computer.windows("ComputerSystem", "HypervisorPresent"),
        plugin=choice.plugin(),
        libvirt=any(os.access(path, os.W_OK) for path in choice.LIBVIRT_SOCKETS),
        kvm=system == "Linux" and choice.kvm_works(),
        box=has_box(OWN_BOX, provider),
        own_box=own == OWN_BOX,
        memory=computer.memory(system),
        free=((str(boxes()), computer.free(boxes())),),
        source=source_for(str(lab.machines[0].address)) if lab.machines else None,
        ranges=ranges(computer.read(Path("/etc/vbox/networks.conf"))),
        made=tuple(n for n in names if n in made),
        unknown=tuple(n for n in names if n in made and n not in known),
        strays=tuple(n for n in made if n not in names),
        others=_others(lab, provider, manager, frozenset(number for _, number in made.values())),
    )


def ranges(text: str) -> tuple[IPv4Network, ...]:
    """The networks in VirtualBox's networks.conf: lines such as ``* 10.0.0.0/8 192.168.0.0/16``."""
    found = []
    for line in text.splitlines():
        if line.strip().startswith("*"):
            for word in line.strip()[1:].split():
                with contextlib.suppress(ValueError):
                    found.append(IPv4Network(word, strict=False))
    return tuple(found) or (HOST_ONLY,)


def lookalikes(names: Sequence[str], listed: str, prefix: str, ours: frozenset[str]) -> list[str]:
    """Virtual machines that have a machine's name after our prefix and are not Vagrant's.

    Args:
        names: of the lab's machines.
        listed: of ``VBoxManage list vms`` or ``virsh list --all --uuid --name``: a name and a
            number a line, in either order.
        prefix: what stands before a machine's name.
        ours: the numbers that Vagrant knows.
    """
    found = []
    for line in listed.splitlines():
        number = re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", line)
        if number is None or number.group() in ours:
            continue
        name = line.replace(number.group(), "").strip(' "{}')
        rest = name.removeprefix(prefix)
        if name != rest and any(rest == n or re.fullmatch(rf"{n}_\d+_\d+", rest) for n in names):
            found.append(name)
    return found


def _others(lab: Lab, provider: str, manager: str | None, ours: frozenset[str]) -> tuple[str, ...]:
    names = [m.name for m in lab.machines]
    if provider == "virtualbox" and manager:
        return tuple(
            lookalikes(names, computer.said([manager, "list", "vms"]), f"{lab.root.name}_", ours)
        )
    if provider == "libvirt" and shutil.which("virsh"):
        argv = ["virsh", "-c", "qemu:///system", "list", "--all", "--uuid", "--name"]
        return tuple(lookalikes(names, computer.said(argv), f"foobar-lab-{lab.id}-", ours))
    return ()


def boxes(environ: Mapping[str, str] = os.environ) -> Path:
    """Vagrant's home, where boxes are kept."""
    return Path(environ.get("VAGRANT_HOME") or "~/.vagrant.d").expanduser()


def has_box(name: str, provider: str) -> bool:
    """Whether a box is there for a provider: Vagrant 2.4 has a folder an architecture as well."""
    folder = boxes() / "boxes" / name.replace("/", "-VAGRANTSLASH-")
    return any(folder.glob(f"*/{provider}")) or any(folder.glob(f"*/*/{provider}"))
