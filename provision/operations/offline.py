"""What a lab needs to work without a network: images, layers, and packages in the pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from provision import registry
from provision import topology as topology_files
from provision.core.errors import not_among
from provision.core.lab import Lab
from provision.core.package_set import PackageSet
from provision.core.pool import run as pool_run
from provision.core.pool import store
from provision.core.report import Report
from provision.core.state import State
from provision.providers.image_recipe import Recipe, load_recipe
from provision.providers.package_pool import open_pool
from provision.topology import labs

ALL = "all"


@dataclass(frozen=True)
class Offline:
    """Whether `lab.up` can bring up a topology, and change to it, without a network.

    Args:
        missing: what would have to be downloaded, in words.
    """

    topology: str
    missing: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing


def package_sets(name: str, root: Path) -> tuple[PackageSet, ...]:
    """The different package sets of a topology's machines, without empty ones."""
    loaded = topology_files.load(topology_files.find(name, root))
    lab = Lab("offline", root, loaded)
    context = registry.context(lab, State(topology=name, primary=loaded.primary, provider="lxc"))
    sets = dict.fromkeys(context.packages(machine) for machine in lab.machines)
    return tuple(packages for packages in sets if packages != PackageSet())


def topologies(root: Path) -> tuple[Offline, ...]:
    """What is available without a network for each topology of the checkout. Read only."""
    recipe = load_recipe()
    return tuple(_missing(name, root, recipe) for name in topology_files.names(root))


def _missing(name: str, root: Path, recipe: Recipe) -> Offline:
    from provision.providers.lxc import images, paths

    pool, missing = store.default_folder(), []
    if not (paths.cache() / "images" / images.base_key(recipe) / "root").is_dir():
        missing.append("the base image")
    layers = packages = 0
    for package_set in package_sets(name, root):
        key = images.layer_key(recipe, package_set)
        if not (paths.cache() / "layers" / key / "root").is_dir():
            layers += 1
        files = pool_run.missing(pool, f"layers-{key}")
        if files is None or files:
            packages += 1
    if layers:
        missing.append(f"{layers} layers")
    if packages:
        missing.append(f"the packages of {packages} kinds of machines")
    return Offline(name, tuple(missing))


def chosen(topology: str, lab: str, root: Path) -> list[str]:
    """The topologies of the option ``--topology``: a name, ``all``, or the lab's own.

    Raises:
        UsageError: when there is no such topology.
    """
    if topology == ALL:
        return list(topology_files.names(root))
    if topology:
        if topology not in topology_files.names(root):
            names = [*topology_files.names(root), ALL]
            raise not_among(f"unknown topology {topology!r}", topology, names)
        return [topology]
    opened, _ = labs.open_lab(lab, root=root)
    return [topology_files.reference(opened.topology, root)]


def listed(topologies: str, root: Path) -> list[str]:
    """Names of topologies, separated by commas; ``all`` for every one, empty for none.

    Raises:
        UsageError: when there is no such topology.
    """
    names = [chosen(word.strip(), "", root) for word in topologies.split(",") if word.strip()]
    return list(dict.fromkeys(name for group in names for name in group))


def union(names: Sequence[str], root: Path) -> PackageSet:
    """All packages that any machine of some topologies needs."""
    sets = [packages for name in names for packages in package_sets(name, root)]
    return PackageSet(
        tuple(sorted({name for packages in sets for name in packages.packages})),
        tuple(sorted({name for packages in sets for name in packages.sid})),
    )


def prefetch(names: Sequence[str], root: Path, report: Report, *, refresh: bool = False) -> None:
    """Download everything that some topologies need, and build their images and layers.

    Args:
        refresh: read Debian's package lists again; otherwise the recorded ones stay, so that all
            labs get the same versions.

    Raises:
        ProviderError: when something cannot be downloaded or built.
    """
    from provision.providers.lxc import images, prune

    recipe = load_recipe()
    pool = open_pool(recipe)
    if refresh:
        pool.refresh()
    sets = tuple(dict.fromkeys(s for name in names for s in package_sets(name, root)))
    with prune.images_locked():
        for package_set in sets:  # one after the other: each is limited by processor and disk
            images.root_file_systems({"new machines": package_set}, report)
            name = f"layers-{images.layer_key(recipe, package_set)}"
            missing = pool_run.missing(pool.folder, name)
            if missing is None or missing:
                images.download(recipe, package_set, report)


def pool_size() -> int:
    """Bytes of all files in the package pool."""
    folder = store.default_folder()
    return sum(path.stat().st_size for _, path in store.files(folder)) if folder.is_dir() else 0
