"""What has newer versions than those in a bundle; asks the archives and the package index."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from provision.core.lab import ROOT
from provision.core.report import Report
from provision.operations import offline
from provision.operations.bundle import hosts, project
from provision.operations.bundle.apt import Suite, apt
from provision.operations.bundle.programs import run
from provision.operations.bundle.wheels import requirements
from provision.providers.image_recipe import load_recipe, source_files
from provision.providers.lxc import images
from provision.providers.package_pool import open_pool
from provision.setup.bundle import manifest
from provision.setup.bundle.archive import Item
from provision.setup.bundle.manifest import BundleManifest


@dataclass(frozen=True)
class Newer:
    """Something of which a newer version exists.

    Args:
        where: release and architecture, or the lock file.
    """

    kind: Literal["debian", "python", "project"]
    name: str
    where: str
    bundled: str
    newest: str


@dataclass(frozen=True)
class Group:
    """Packages of a bundle that come from the same suites.

    Args:
        files: names of package files.
    """

    where: str
    architecture: str
    suites: Sequence[Suite]
    files: Sequence[str] = field(repr=False)
    preferences: str = ""


def parse_deb(file: str) -> tuple[str, str]:
    """Package and version, without its epoch, from the name of a package file."""
    name, *_, version, _ = unquote(unquote(file.rpartition("/")[2])).split("_")
    return name, version


def compare(file: Path, report: Report) -> tuple[Newer, ...]:
    """Everything in a bundle that has a newer version, sorted.

    Raises:
        BundleError: when the bundle is damaged.
        LabError: when an archive or the index does not respond.
    """
    bundle, items = manifest.verify(file)
    found = [*_project(bundle), *_python(bundle, report)]
    for group in [*_host_groups(bundle), *_machine_groups(bundle, file, items)]:
        report("host", f"reading package lists: {group.where}")
        found += newer_packages(group, candidates(group))
    return tuple(sorted(set(found), key=lambda row: (row.kind, row.where, row.name)))


def candidates(group: Group) -> Mapping[str, str]:
    """The newest version of each package of a group, without epochs; the pool stays as it is."""
    recipe = load_recipe()
    names = {parse_deb(name)[0] for name in group.files}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pool = replace(open_pool(recipe), folder=folder / "pool", used=set())
        settings = images.build_settings(recipe)
        with apt(
            folder / "apt", group.architecture, group.suites, pool, settings, group.preferences
        ) as own:
            found = own.candidates(names)
    return {name: version.partition(":")[2] or version for name, version in found.items()}


def newer_packages(group: Group, newest: Mapping[str, str]) -> Iterator[Newer]:
    """The packages of a group that have a newer version.

    Args:
        newest: versions by package.
    """
    bundled = defaultdict(set)
    for file in group.files:
        name, version = parse_deb(file)
        bundled[name].add(version)
    for name, versions in sorted(bundled.items()):
        candidate = newest.get(name, "")
        if candidate and all(_is_newer(candidate, version) for version in versions):
            yield Newer("debian", name, group.where, ", ".join(sorted(versions)), candidate)


def _is_newer(version: str, other: str) -> bool:
    argv = ["dpkg", "--compare-versions", version, "gt", other]
    return version != other and subprocess.run(argv, check=False).returncode == 0


def _host_groups(bundle: BundleManifest) -> Iterator[Group]:
    security = hosts.security_archive(source_files())
    for release in bundle.releases:
        chosen = hosts.RELEASES[release].without_vm("libvirt" not in bundle.providers)
        for architecture in bundle.architectures:
            prefix = f"hosts/{release}/{architecture}/"
            yield Group(
                f"hosts {release} {architecture}",
                architecture,
                chosen.sources(security),
                _debs(name for name in bundle.entries if name.startswith(prefix)),
                chosen.preferences,
            )


def _machine_groups(
    bundle: BundleManifest, file: Path, items: Mapping[str, Item]
) -> Iterator[Group]:
    """Packages of machines: those of sid by name, all others from the machines' own release."""
    recipe = load_recipe()
    sets = (s for name in bundle.topologies for s in offline.package_sets(name, ROOT))
    sid = {name for package_set in sets for name in package_set.sid}
    for architecture in bundle.architectures:
        own: set[str] = set()
        newer: set[str] = set()
        for name, item in items.items():
            if not name.startswith(f"sets/{architecture}/"):
                continue
            base = name.startswith(f"sets/{architecture}/images-")
            with file.open("rb") as stream:
                files = _debs(json.loads(manifest.content(stream, item)))
            for deb in files:
                (newer if not base and parse_deb(deb)[0] in sid else own).add(deb)
        for suite, names in ((recipe.suite, own), ("sid", newer)):
            if names:
                where = f"machines {suite} {architecture}"
                yield Group(where, architecture, [Suite(suite)], sorted(names))


def _debs(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.endswith(".deb")]


def _project(bundle: BundleManifest) -> Iterator[Newer]:
    """The commits of this checkout that the bundle does not have."""
    head, _ = project.commit()
    if head != bundle.commit:
        yield Newer("project", "foobar-lab", "this checkout", bundle.commit[:10], head[:10])


def _python(bundle: BundleManifest, report: Report) -> Iterator[Newer]:
    """Packages of the lock file that the index has newer versions of, for this Python."""
    lock = sorted(bundle.locks)[0]
    report("host", f"asking the package index about {lock}")
    text = (ROOT / lock).read_text(encoding="utf-8")
    bundled = dict(name.split("==") for name, _, _ in requirements(text))
    argv = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps"]
    argv += ["--quiet", "--no-input", "--disable-pip-version-check", "--report=-", *bundled]
    found = json.loads(run("asking the package index", argv))
    for item in found["install"]:
        name, newest = item["metadata"]["name"], item["metadata"]["version"]
        name = re.sub(r"[-_.]+", "-", name).lower()
        if bundled.get(name, newest) != newest:
            yield Newer("python", name, lock, bundled[name], newest)
