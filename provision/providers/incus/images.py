"""Images in Incus: the base image and the layers of the lxc provider, one image for each pair.

An image is a unified tarball (Incus' documentation, "Image format"), named by the key of its layer.
A cluster copies it to a member when an instance there needs it. It is not compressed: a member then
creates instances faster, and gzip would take longer than the transfer in a local network.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from http import HTTPStatus
from pathlib import Path

from provision.core.errors import ProviderError
from provision.core.lab import ROOT
from provision.core.locks import file_lock
from provision.core.package_set import PackageSet
from provision.core.report import Report
from provision.providers.image_recipe import Recipe, load_recipe
from provision.providers.incus.client import IncusClient, IncusError
from provision.providers.incus.names import IMAGE_PREFIX
from provision.setup.system import SYSTEMS

SCRIPT = Path(__file__).with_name("pack-image.sh")
BLOCK = 2**20
IMPORT_SECONDS = 1800.0
"""How long a command waits for another one that imports images."""

LOCK = ROOT / ".lab" / ".incus-images.lock"


def alias(recipe: Recipe, package_set: PackageSet) -> str:
    """The alias of an image with these packages."""
    from provision.providers.lxc import images

    if package_set == PackageSet():
        return IMAGE_PREFIX + images.base_key(recipe)
    return IMAGE_PREFIX + images.layer_key(recipe, package_set)


def ensure(
    client: IncusClient, package_sets: Mapping[str, PackageSet], report: Report
) -> Mapping[str, str]:
    """The aliases of the machines' images; missing ones are built and imported.

    Args:
        package_sets: by machine.

    Raises:
        ProviderError: when an image is missing, and cannot be built on this computer.
    """
    recipe = load_recipe()
    aliases = {s: alias(recipe, s) for s in dict.fromkeys(package_sets.values())}
    if not all(client.exists(f"/images/aliases/{name}") for name in aliases.values()):
        _require_linux(client, aliases)
        with file_lock(LOCK, IMPORT_SECONDS):
            aliases = _import_missing(client, recipe, package_sets, report)
    return {machine: aliases[package_set] for machine, package_set in package_sets.items()}


def _import_missing(
    client: IncusClient, recipe: Recipe, package_sets: Mapping[str, PackageSet], report: Report
) -> dict[PackageSet, str]:
    from provision.providers.lxc import images, prune

    aliases = {}
    with prune.images_locked():
        roots = images.root_file_systems(package_sets, report)
        for package_set, lower in roots.items():
            # Without its layer, the machine's packages are installed over SSH.
            built = package_set if len(lower) > 1 else PackageSet()
            name = aliases[package_set] = alias(recipe, built)
            if not client.exists(f"/images/aliases/{name}"):
                machines = [m for m, own in package_sets.items() if own == package_set]
                report("host", f"importing the image of {images.listed(machines)} into Incus")
                import_image(client, name, [str(root) for root in lower])
    return aliases


def _require_linux(client: IncusClient, aliases: Mapping[PackageSet, str]) -> None:
    system = SYSTEMS.get(sys.platform, "Linux")
    if system == "Linux":
        return
    raise ProviderError(
        f"Incus at {client.remote} lacks the image {min(aliases.values())}, and {system} cannot "
        "build it",
        "run invoke lab.up with the same LAB_INCUS and topology once on a Linux computer",
    )


def import_image(client: IncusClient, name: str, roots: list[str]) -> None:
    """Import an image.

    Args:
        roots: root file systems that it is made of, the uppermost first.

    Raises:
        ProviderError: when it cannot be packed, or Incus refuses it.
    """
    from provision.providers.lxc.privileged import as_root

    words = as_root(["unshare", "--mount", "--propagation=private"])
    argv = [*words, "sh", str(SCRIPT), ":".join(roots), name]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None  # noqa: PT018
        try:
            with closing(process.stdout) as stream:
                blocks = iter(lambda: stream.read(BLOCK), b"")
                image = client.upload("/images", blocks, {"X-Incus-filename": f"{name}.tar"})
        except ProviderError:
            process.kill()
            output = process.stderr.read().decode(errors="replace")
            if output.strip() and process.wait() > 0:
                raise _not_packed(name, output) from None
            raise
        output = process.stderr.read().decode(errors="replace")
    if process.returncode:
        client.delete(f"/images/{image['fingerprint']}")
        raise _not_packed(name, output)
    try:
        client.post("/images/aliases", {"name": name, "target": image["fingerprint"]})
    except IncusError as error:
        if error.code != HTTPStatus.CONFLICT:  # another checkout was faster
            raise


def _not_packed(name: str, output: str) -> ProviderError:
    return ProviderError(
        f"packing the image {name} failed", "see the output above, then run it again", output=output
    )
