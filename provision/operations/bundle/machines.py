"""What machines are made of: images and layers, or the packages to make them from, in the pool."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from provision.core import apt_source
from provision.core.package_set import PackageSet
from provision.core.pool import store
from provision.core.pool.pool import Pool
from provision.operations.bundle.apt import Suite, apt
from provision.operations.bundle.programs import run
from provision.providers.image_recipe import Recipe
from provision.providers.lxc import images
from provision.providers.lxc.privileged import as_root


def set_names(recipe: Recipe, sets: Sequence[PackageSet]) -> dict[str, PackageSet]:
    """The name in the pool of each set of packages, that of the base image included."""
    names = {f"images-{images.base_key(recipe)}": PackageSet()}
    return names | {f"layers-{images.layer_key(recipe, s)}": s for s in sets}


def recorded(pool: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """The files of the pool that each set of packages was installed from on this computer."""
    found = {}
    for name in names:
        record = pool / store.SETS / f"{name}.json"
        if record.exists():
            found[name] = list(json.loads(record.read_text(encoding="utf-8")))
    return found


def download(
    work: Path,
    architecture: str,
    recipe: Recipe,
    sets: Mapping[str, PackageSet],
    pool: Pool,
    packages: Sequence[str],
) -> dict[str, list[str]]:
    """Record the packages of images and layers in the pool, for another architecture.

    Args:
        work: for the files of apt; removed afterwards.
        sets: see `set_names`.
        packages: of the base image, in addition to Debian's minimal system.

    Returns:
        The files of each set.
    """
    found: dict[str, list[str]] = {}
    for name, package_set in sets.items():
        suites = [Suite(recipe.suite), *([Suite("sid")] if package_set.sid else [])]
        pins = apt_source.sid_preferences(package_set.sid) if package_set.sid else ""
        pool.used.clear()
        settings = images.build_settings(recipe)
        with apt(work, architecture, suites, pool, settings, pins) as own:
            own.download(sorted({*own.required(), *packages, *_names(package_set)}))
        found[name] = sorted(pool.used)
    return found


def _names(package_set: PackageSet) -> set[str]:
    return {*package_set.packages, *package_set.sid}


def pack(target: Path, cache: Path, folders: Sequence[Path]) -> None:
    """Write images and layers as one archive.

    Files with the same path come one after the other, since layers have most of them in common:
    zstd finds the copies within a window of 128 MiB, which is also the memory that unpacking needs.
    """
    roots = [str(folder.relative_to(cache)) for folder in folders]
    find = ["find", *roots, "(", "-type", "d", "-printf", r"d %p\0", ")", "-o"]
    find += ["(", "!", "-type", "s", "-printf", r"f %p\0", ")"]
    listing = run("listing images", as_root(["env", "-C", str(cache), *find])).split(b"\0")
    names = [(line[:1], line[2:]) for line in listing if line]
    names.sort(key=lambda item: (item[0], *(_by_path(item[1]) if item[0] == b"f" else (item[1],))))
    tar = ["tar", "--create", f"--file={target}"]
    tar += ["--format=posix", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"]
    tar += ["--numeric-owner", "--acls", "--xattrs", "--xattrs-include=*", f"--directory={cache}"]
    tar += ["--use-compress-program=zstd -10 --long=27 -T0 -q"]
    tar += ["--no-recursion", "--null", "--verbatim-files-from", "--files-from=-"]
    hint = "sudo apt-get install --no-install-recommends zstd"
    run("packing images", as_root(tar), input=b"\0".join(name for _, name in names), hint=hint)


def _by_path(name: bytes) -> tuple[bytes, bytes]:
    """The path within an image, then the image: ``layers/KEY/root/PATH``."""
    parts = name.split(b"/", 3)
    return parts[-1], name
