"""`lab.prune`: remove the images that no lab on this host uses."""

from __future__ import annotations

import sys
from typing import Any

from provision.commands.base import publish, task
from provision.commands.results import lab as results

MIB = 2**20


@task(result=results.Pruned, help={"yes": "remove them (default: only list them)"})
def prune(c: Any, yes: bool = False) -> None:
    """List or remove images that no lab uses."""
    if sys.platform == "linux":
        _prune_lxc(yes)
    else:
        publish(results.Pruned(images=[], size_bytes=0, removed=yes))
        print("provider lxc: nothing to prune, it runs on Linux only")
    print("providers vagrant and ssh: nothing to prune (old boxes: vagrant box prune)")


def _prune_lxc(yes: bool) -> None:
    from provision.providers.lxc import paths, prune

    images = prune.prune_images() if yes else prune.unused_images()
    values = [results.UnusedImageValues(path=str(i.path), size_bytes=i.size) for i in images]
    size = sum(image.size for image in images)
    publish(results.Pruned(images=values, size_bytes=size, removed=yes))
    if not images:
        print(f"provider lxc: nothing to prune in {paths.cache()}")
        return
    print(f"provider lxc: {'removed' if yes else 'unused'} in {paths.cache()}")
    for image in images:
        print(f"  {image.path.relative_to(paths.cache())!s:<32} {image.size / MIB:8.1f} MiB")
    total = f"{size / MIB:.1f} MiB"
    if yes:
        print(f"{total} freed")
    else:
        print(f"{total} can be freed: invoke lab.prune --yes")
