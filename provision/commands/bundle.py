"""`bundle.*`: one file with everything that labs need, for computers without a network."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from provision import topology as topology_files
from provision.commands import tables
from provision.commands.base import console, publish, task
from provision.commands.progress import Progress
from provision.commands.results import bundle as results
from provision.core.errors import LabError, UsageError
from provision.core.files import unreadable
from provision.core.lab import ROOT
from provision.setup.bundle import install, manifest
from provision.setup.bundle.archive import BundleError

MIB = 2**20
DEFAULT_FILE = "foobar-lab.bundle"


@task(
    result=results.BundleValues,
    positional=["file"],
    help={
        "file": f"the file to write (default: {DEFAULT_FILE})",
        "providers": "lxc, libvirt, virtualbox, separated by commas, or all (default: lxc)",
        "topologies": "names separated by commas (default: all)",
        "arch": "amd64, arm64 or both: processors of the hosts (default: this computer's)",
        "hosts": "bookworm, trixie or both: Debian releases of the hosts (default: all)",
        "platforms": "linux-amd64, linux-arm64, macos-amd64, macos-arm64, windows-amd64, "
        "windows-arm64, or all: for whose Python packages are included (default: Linux)",
        "pythons": "versions of Python, separated by commas (default: 3.11,3.13)",
        "tests": "include what scripts/test needs, otherwise only what scripts/up needs",
        "for-learners": "leave the solutions of the drills out (default: keep them)",
        "refresh": "get newer packages than those of the last bundle (default: the same)",
    },
)
def create(
    c: Any,
    file: str = DEFAULT_FILE,
    providers: str = "lxc",
    topologies: str = "all",
    arch: str = "",
    hosts: str = "all",
    platforms: str = "",
    pythons: str = "3.11,3.13",
    tests: bool = True,
    for_learners: bool = False,
    refresh: bool = False,
) -> None:
    """Write a bundle for computers without a network.

    An interrupted run leaves no file; the next one continues.
    """
    if sys.platform != "linux":
        raise UsageError("bundles are created on Linux", "scripts/up --bundle FILE uses one")
    from provision.operations.bundle import create as creation
    from provision.operations.bundle import options, project

    architecture = install.this_computer().architecture
    chosen = options.parse(
        tuple(topology_files.names(ROOT)),
        architecture,
        topologies=topologies,
        providers=providers,
        arch=arch,
        hosts=hosts,
        platforms=platforms,
        pythons=pythons,
        tests=tests,
        learners=for_learners,
    )
    target = Path(file).absolute()
    if target.is_dir() or not target.parent.is_dir():
        raise UsageError(f"{target} cannot be written", "use the path of a file in a folder")
    changed = project.uncommitted()
    if changed:
        print(f"warning: not committed, so not in the bundle: {', '.join(changed[:5])}")
    with Progress() as report:
        made = creation.create(target, chosen, architecture, report, refresh=refresh)
    if not publish(_values(target, made)):
        for part, size in creation.sizes(made).items():
            print(f"  {part:<8} {size / MIB:7.1f} MiB")
        key, size = manifest.fingerprint(made.key), target.stat().st_size
        print(f"{target}: {size / MIB:.0f} MiB, {len(made.entries)} entries, key {key}")
        print(f"next, on the other computer: python3 {shlex.quote(target.name)}")
        print(f"or, in a copy of the project: scripts/up --bundle {shlex.quote(target.name)}")


@task(
    result=results.BundleValues,
    positional=["file"],
    help={
        "file": "the bundle",
        "key": "the key that must have signed it, as bundle.create says (default: any)",
    },
)
def verify(c: Any, file: str, key: str = "") -> None:
    """Compare a bundle with its signed manifest.

    Nothing is changed; the first bad entry is named.
    """
    path = Path(file).absolute()
    verified = _verified(path, key)
    if not publish(_values(path, verified)):
        size = path.stat().st_size
        print(f"{path}: good, {size / MIB:.0f} MiB, {len(verified.entries)} entries")
        print(f"of {verified.date}, signed with the key {manifest.fingerprint(verified.key)}")
        for name in manifest.LISTS:
            print(f"{name}: {', '.join(getattr(verified, name)) or 'none'}")
        print(f"solutions of drills: {'left out' if verified.learners else 'included'}")


OUTDATED = tables.layout(
    "bundle.outdated",
    tables.Column("PACKAGE"),
    tables.Column("KIND", 2),
    tables.Column("WHERE", 3),
    tables.Column("BUNDLED", 1),
    tables.Column("NEWEST"),
)


@task(
    result=results.OutdatedBundle,
    positional=["file"],
    help={"file": f"the bundle (default: {DEFAULT_FILE})"},
)
def outdated(c: Any, file: str = DEFAULT_FILE) -> None:
    """Show what has newer versions than a bundle."""
    path = Path(file).absolute()
    _verified(path, "")
    if sys.platform != "linux":
        raise UsageError("bundles are compared on Linux", "bundle.verify works everywhere")
    from provision.operations.bundle import outdated as comparison

    with Progress() as report:
        rows = comparison.compare(path, report)
    values = results.OutdatedBundle(
        file=str(path),
        newer=[
            results.NewerVersion(
                kind=row.kind,
                package=row.name,
                where=row.where,
                bundled=row.bundled,
                newest=row.newest,
            )
            for row in rows
        ],
    )
    if publish(values):
        return
    if not rows:
        print(f"{path}: nothing has a newer version")
        return
    tables.show(console(), OUTDATED, [(r.name, r.kind, r.where, r.bundled, r.newest) for r in rows])
    print(f"{len(rows)} newer version{'s' * (len(rows) != 1)}")
    print(f"next: invoke bundle.create {shlex.quote(str(path))} --refresh")


def _verified(path: Path, key: str) -> manifest.BundleManifest:
    try:
        return manifest.verify(path, key)[0]
    except BundleError as error:
        raise LabError(
            f"{path} was refused: {error}; nothing was changed",
            "copy the bundle again, or create it again: invoke bundle.create",
        ) from None
    except OSError as error:
        hint = "invoke bundle.create writes one; name its file"
        raise unreadable(str(path), path, error, hint) from None


def _values(path: Path, made: manifest.BundleManifest) -> results.BundleValues:
    return results.BundleValues(
        file=str(path),
        size_bytes=path.stat().st_size,
        created=made.date,
        commit=made.commit,
        key=manifest.fingerprint(made.key),
        bundled_topologies=list(made.topologies),
        bundled_providers=list(made.providers),
        architectures=list(made.architectures),
        host_releases=list(made.releases),
        platforms=list(made.platforms),
        tests=made.tests,
        learners=made.learners,
        entries=len(made.entries),
    )
