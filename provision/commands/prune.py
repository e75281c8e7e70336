"""`lab.prune`: remove the images that no lab on this host uses."""

from __future__ import annotations

import sys
from typing import Any

from provision.commands.base import task

MIB = 2**20


@task(help={"yes": "remove them (default: only list them)"})
def prune(c: Any, yes: bool = False) -> None:
    """List images that no lab on this host uses; remove them with --yes."""
    if sys.platform == "linux":
        _prune_lxc(yes)
    else:
        print("provider lxc: nothing to prune, it runs on Linux only")
    print("providers vagrant and ssh: nothing to prune (old boxes: vagrant box prune)")


def _prune_lxc(yes: bool) -> None:
    from provision.providers.lxc import paths, prune

    images = prune.prune_images() if yes else prune.unused_images()
    if not images:
        print(f"provider lxc: nothing to prune in {paths.cache()}")
        return
    print(f"provider lxc: {'removed' if yes else 'unused'} in {paths.cache()}")
    for image in images:
        print(f"  {image.path.relative_to(paths.cache())!s:<32} {image.size / MIB:8.1f} MiB")
    total = f"{sum(image.size for image in images) / MIB:.1f} MiB"
    if yes:
        print(f"{total} freed")
    else:
        print(f"{total} can be freed: invoke lab.prune --yes")
