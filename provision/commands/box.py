"""`box.*`: build boxes for Vagrant from Debian packages."""

from __future__ import annotations

import sys
from typing import Any

from provision.commands.base import publish, task
from provision.commands.progress import Progress
from provision.commands.results import site as results
from provision.core.errors import ProviderError, UsageError
from provision.setup.system import SYSTEMS


@task(
    result=results.BoxBuilt,
    help={
        "provider": "libvirt or virtualbox",
        "add": "add it to Vagrant, otherwise only build the file",
    },
)
def build(c: Any, provider: str = "libvirt", add: bool = True) -> None:
    """Build a Debian 13 box for Vagrant."""
    system = SYSTEMS.get(sys.platform, sys.platform)
    if system != "Linux":
        raise ProviderError(
            f"boxes are built on Linux, and this is {system}",
            "build it there, copy the file here, and: vagrant box add --name foobar-lab/debian-13 "
            "FILE",
        )
    from provision.providers.boxes import build as boxes
    from provision.providers.vagrant import client

    if provider not in boxes.PROVIDERS:
        raise UsageError(f"no boxes for {provider!r}", f"choose from {', '.join(boxes.PROVIDERS)}")
    with Progress() as report:
        box = boxes.build(provider, report)
        if add:
            report("host", "adding the box to Vagrant")
            client.add_box(box.file, boxes.NAME, provider, box.file.parent / client.LOG)
    size = box.file.stat().st_size
    publish(
        results.BoxBuilt(
            path=str(box.file),
            size_bytes=size,
            packages=box.packages,
            provider="virtualbox" if provider == "virtualbox" else "libvirt",
            added=add,
        )
    )
    print(f"{box.file}: {size / 2**20:.0f} MiB, {box.packages} packages, for {provider}")
    if not add:
        print(f"next: vagrant box add --name {boxes.NAME} {box.file}")
    elif provider == "virtualbox":
        print(f"next: LAB_BOX={boxes.NAME} invoke lab.up --provider vagrant")
    else:
        print("next: invoke lab.up --provider vagrant")
