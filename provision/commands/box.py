"""`box.*`: build boxes for Vagrant from Debian packages."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from provision.commands.base import publish, task
from provision.commands.progress import Progress
from provision.commands.results import site as results
from provision.core.errors import ProviderError, not_among
from provision.core.lab import ROOT
from provision.setup.system import SYSTEMS

if TYPE_CHECKING:
    from provision.providers.boxes.build import BuiltBox


@task(
    result=results.BoxBuilt,
    help={
        "provider": "libvirt or virtualbox",
        "arch": "amd64 or arm64 (default: this computer's)",
        "topologies": "names separated by commas, or all: put the packages of their roles into the "
        "box (default: none)",
        "minimal": "without systemd: boots on an emulated processor, and takes no roles",
        "add": "add it to Vagrant, otherwise only build the file",
    },
)
def build(
    c: Any,
    provider: str = "libvirt",
    arch: str = "",
    topologies: str = "",
    minimal: bool = False,
    add: bool = True,
) -> None:
    """Build a Debian 13 box for Vagrant."""
    system = SYSTEMS.get(sys.platform, sys.platform)
    if system != "Linux":
        raise ProviderError(
            f"boxes are built on Linux, and this is {system}",
            "build it there, copy the file here, and: vagrant box add --name foobar-lab/debian-13 "
            "FILE",
        )
    from provision.operations import offline
    from provision.providers.boxes import build as boxes
    from provision.providers.boxes.architecture import native

    if provider not in boxes.PROVIDERS:
        raise not_among(f"no boxes for {provider!r}", provider, boxes.PROVIDERS)
    architecture = boxes.find_architecture(arch).name
    names = offline.listed(topologies, ROOT)
    add = add and architecture == native()
    name = boxes.MINIMAL_NAME if minimal else boxes.NAME
    with Progress() as report:
        packages = offline.union(names, ROOT)
        box = boxes.build(provider, report, architecture, packages, minimal=minimal)
        if add:
            from provision.providers.vagrant import client  # says so when Vagrant is missing

            report("host", "adding the box to Vagrant")
            client.add_box(box.file, name, provider, box.file.parent / client.LOG)
    size = box.file.stat().st_size
    publish(
        results.BoxBuilt(
            path=str(box.file),
            size_bytes=size,
            packages=box.packages,
            provider="virtualbox" if provider == "virtualbox" else "libvirt",
            architecture="arm64" if architecture == "arm64" else "amd64",
            topologies=names,
            added=add,
        )
    )
    print(
        f"{box.file}: {size / 2**20:.0f} MiB, {box.packages} packages, for {provider} on "
        f"{architecture}"
    )
    default = provider == "libvirt" and not minimal
    step = _next_step(box, name, add=add, foreign=architecture != native(), default=default)
    print(f"next: {step}")


def _next_step(box: BuiltBox, name: str, *, add: bool, foreign: bool, default: bool) -> str:
    """The command that uses a box.

    Args:
        default: whether the provider uses it unless another one is chosen.
    """
    command = f"vagrant box add --name {name} {box.file}"
    if foreign:
        return f"copy it to a computer with {box.architecture}; there, {command}"
    if not add:
        return command
    up = "invoke lab.up --provider vagrant"
    return up if default else f"LAB_BOX={name} {up}"
