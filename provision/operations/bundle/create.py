"""Create a bundle: one signed file with everything that labs need."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provision.core.atomic import write_atomically
from provision.core.errors import LabError
from provision.core.files import cannot_write
from provision.core.lab import ROOT
from provision.core.locks import file_lock
from provision.core.pool import store
from provision.core.report import Report
from provision.operations import offline
from provision.operations.bundle import hosts, machines, project, wheels
from provision.operations.bundle.options import Options
from provision.operations.bundle.work import Work, remove
from provision.providers.image_recipe import load_recipe, source_files
from provision.providers.lxc import images, paths, prune
from provision.providers.package_pool import open_pool
from provision.setup.bundle import archive
from provision.setup.bundle.archive import BundleError, measure
from provision.setup.bundle.manifest import MANIFEST, SIGNATURE, VERSION, BundleManifest

WORK = ROOT / ".lab" / "bundle-parts"
KEY = ROOT / ".lab" / "bundle.key"
"""The private key that signs the bundles of this checkout, mode 0600."""

LOCKS = ("requirements.lock", "requirements-dev.lock")
PROGRAMS = ("__init__.py", "setup/__init__.py", "setup/bundle")
"""Modules below provision/ that Python runs from within the file."""

Source = tuple[str, Path | bytes]
Contents = tuple[BundleManifest, list[Source]]


def signing_key() -> Ed25519PrivateKey:
    """The key of this checkout's bundles, which is made for the first one."""
    with file_lock(KEY.with_name(".bundle.key.lock")):
        if not KEY.exists():
            key = Ed25519PrivateKey.generate()
            write_atomically(KEY, key.private_bytes_raw())
        return Ed25519PrivateKey.from_private_bytes(KEY.read_bytes())


def create(
    target: Path,
    options: Options,
    architecture: str,
    report: Report,
    *,
    refresh: bool = False,
) -> BundleManifest:
    """Write a bundle; an interrupted call leaves no file, and the next one continues.

    Args:
        architecture: of this computer.
        refresh: get newer packages than those that were downloaded before.

    Raises:
        LabError: when something cannot be downloaded, or the file would be too large.
    """
    with ExitStack() as stack:
        stack.enter_context(file_lock(WORK.with_name(".bundle-parts.lock")))
        WORK.mkdir(mode=0o700, parents=True, exist_ok=True)
        if refresh:
            for path in WORK.iterdir():
                remove(path)
        work = Work(WORK, report)
        key = signing_key()
        manifest, sources = _contents(work, options, architecture, key, refresh=refresh)
        report("host", "computing hashes")
        entries = {name: _measured(source) for name, source in sources}
        manifest = replace(manifest, entries=entries)
        write(target, manifest, key, sources, report)
        work.remove_unused()
    return manifest


def write(
    target: Path,
    manifest: BundleManifest,
    key: Ed25519PrivateKey,
    sources: list[Source],
    report: Report,
) -> None:
    """Write a bundle with that manifest; its file has its name when it is complete.

    Raises:
        LabError: when it would be too large.
    """
    data = manifest.encoded()
    head: list[Source] = [(MANIFEST, data), (SIGNATURE, key.sign(data).hex().encode())]
    partial = target.with_name(f".new.{target.name}")
    total, written, shown = sum(size for size, _ in manifest.entries.values()), 0, -1
    try:
        with partial.open("wb") as file:
            for item in archive.write(file, [*head, *sources]):
                written += item.size
                if (tenth := 10 * written // max(total, 1)) > shown:
                    shown = tenth
                    report("host", f"writing {written // 2**20} of {total // 2**20} MiB")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except BundleError as error:
        raise LabError(str(error), "choose fewer topologies or platforms") from None
    except OSError as error:
        raise cannot_write(target, error) from None
    finally:
        partial.unlink(missing_ok=True)


def _measured(source: Path | bytes) -> tuple[int, str]:
    if isinstance(source, bytes):
        return len(source), hashlib.sha256(source).hexdigest()
    size, _, digest = measure(source)
    return size, digest


def sizes(manifest: BundleManifest) -> Mapping[str, int]:
    """Bytes of each part of a bundle, by the first folder of its entries."""
    found: dict[str, int] = {}
    for name, (size, _) in manifest.entries.items():
        top = name.partition("/")[0].partition(".")[0] if "/" not in name else name.split("/")[0]
        part = {"__main__": "project", "provision": "project"}.get(top, top)
        found[part] = found.get(part, 0) + size
    return found


def _contents(
    work: Work, options: Options, architecture: str, key: Ed25519PrivateKey, *, refresh: bool
) -> Contents:
    """The manifest, without the entries' sizes, and the entries; makes parts that are missing."""
    commit, seconds = project.commit()
    locks = LOCKS if options.tests else LOCKS[:1]
    sources: list[Source] = list(programs())
    sources += _project(work, options, commit)
    sources += _wheels(work, options, ROOT / locks[-1])
    own, own_seconds = _hosts(work, options, key)
    sources += own
    pool_files, pool_seconds = _machines(work, options, architecture, refresh=refresh)
    sources += pool_files
    sources += _boxes(options, work.report)
    date = datetime.fromtimestamp(max(seconds, own_seconds, pool_seconds), UTC)
    manifest = BundleManifest(
        version=VERSION,
        date=date.isoformat(timespec="seconds"),
        key=key.public_key().public_bytes_raw().hex(),
        commit=commit,
        providers=options.providers,
        topologies=options.topologies,
        architectures=options.architectures,
        releases=options.releases,
        platforms=options.platforms,
        tests=options.tests,
        learners=options.learners,
        locks={name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in locks},
        entries={},
    )
    return manifest, sources


START = b"""\
import sys

if sys.version_info < (3, 11):
    sys.exit("error: this needs Python 3.11 or newer")
from provision.setup.bundle.start import main

sys.exit(main())
"""


def programs() -> Iterator[Source]:
    """What Python runs from within the file."""
    yield "__main__.py", START
    for program in PROGRAMS:
        path = ROOT / "provision" / program
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            yield file.relative_to(ROOT).as_posix(), file.read_bytes()


def _project(work: Work, options: Options, commit: str) -> Iterator[Source]:
    def files(target: Path) -> None:
        project.write_archive(target, commit, learners=options.learners)

    def history(target: Path) -> None:
        project.write_history(target, commit)

    yield (
        "project.tar.gz",
        work.part("project.tar.gz", [commit, options.learners], "the project", files),
    )
    if not options.learners and not project.shallow():  # the history contains the solutions
        yield "project.bundle", work.part("project.bundle", commit, "its history", history)


def _wheels(work: Work, options: Options, lock: Path) -> list[Source]:
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    found: dict[str, Path] = {}
    for platform in options.platforms:
        for python in options.pythons:
            folder = work.part(
                f"wheels-{platform}-{python.replace('.', '_')}",
                [digest, "the newest pip"],
                f"wheels for {platform}, Python {python}",
                _with(wheels.download, lock, platform, python),
            )
            found |= {f"wheels/{path.name}": path for path in folder.glob("*.whl")}
    return sorted(found.items())


def _hosts(work: Work, options: Options, key: Ed25519PrivateKey) -> tuple[list[Source], int]:
    """The packages of hosts, and the time of their lists."""
    recipe = load_recipe()
    security = hosts.security_archive(source_files())
    found: list[Source] = []
    seconds = 0
    for release in options.releases:
        for architecture in options.architectures:
            vm = "libvirt" in options.providers
            chosen = hosts.RELEASES[release].without_vm(not vm)
            names = hosts.packages(tests=options.tests, vm=vm and architecture == "amd64")
            pool = open_pool(recipe)
            settings = images.build_settings(recipe)
            folder = work.part(
                f"hosts-{release}-{architecture}",
                [names, chosen.newer, security],
                f"packages for hosts with Debian {release}, {architecture}",
                _with(hosts.download, chosen, architecture, names, pool, settings, security),
            )
            place = f"hosts/{release}/{architecture}"
            found.append((f"{place}/key.asc", hosts.certificate(key)))
            signed = hosts.signed_release(folder, release, architecture, key)
            found.append((f"{place}/InRelease", signed))
            found.append((f"{place}/Packages", folder / "Packages"))
            found += [(f"{place}/{path.name}", path) for path in sorted(folder.glob("*.deb"))]
            seconds = max(seconds, int((folder / hosts.DATE).read_text()))
    return found, seconds


def _machines(
    work: Work, options: Options, architecture: str, *, refresh: bool
) -> tuple[list[Source], int]:
    """Images, layers, and the files of the package pool; and the time of the package lists."""
    recipe, pool = load_recipe(), open_pool()
    package_sets = {s for name in options.topologies for s in offline.package_sets(name, ROOT)}
    sets = machines.set_names(recipe, sorted(package_sets, key=repr))
    found: list[Source] = []
    used: set[str] = set()
    for arch in options.architectures:
        if arch == architecture:
            offline.prefetch(options.topologies, ROOT, work.report, refresh=refresh)
            files = machines.recorded(pool.folder, tuple(sets))
            if "lxc" in options.providers:
                # The packages of the base image are in the image.
                files = {name: names for name, names in files.items() if name.startswith("layers")}
                cache = paths.cache()
                folders = [cache / name.replace("-", "/", 1) for name in sets]
                with prune.images_locked():
                    packed = work.part(
                        f"images-{arch}.tar.zst",
                        [_identity(folder) for folder in folders],
                        f"images and layers for {arch}",
                        _with(machines.pack, cache, [f for f in folders if f.is_dir()]),
                    )
                found.append((f"images/{arch}.tar.zst", packed))
        else:
            part = work.part(
                f"packages-{arch}.json",
                sorted(sets),
                f"packages of machines for {arch}",
                _with(_download_packages, arch, sets),
            )
            files = json.loads(part.read_text(encoding="utf-8"))
        for name, names in files.items():
            text = json.dumps(names, indent=1) + "\n"
            found.append((f"sets/{arch}/{name}.json", text.encode()))
            used.update(names)
    seconds = 0
    for name in sorted(used):
        entry = store.encoded(name)
        if (pool.folder / entry).is_file():
            found.append((f"pool/{entry}", pool.folder / entry))
            if entry.endswith("InRelease"):
                seconds = max(seconds, hosts.release_time(pool.folder / entry))
    return found, seconds


def _download_packages(target: Path, architecture: str, sets: Mapping[str, object]) -> None:
    recipe = load_recipe()
    files = machines.download(
        target.with_name(f".apt.{target.name}"),
        architecture,
        recipe,
        sets,  # type: ignore[arg-type]
        open_pool(recipe),
        recipe.packages,
    )
    target.write_text(json.dumps(files))


def _identity(folder: Path) -> list[object]:
    """What distinguishes an image from one of the same name that was built at another time."""
    status = folder.stat() if folder.is_dir() else None
    return [folder.name, status.st_ino if status else 0, status.st_mtime_ns if status else 0]


def _boxes(options: Options, report: Report) -> list[Source]:
    from provision.providers.boxes import build

    packages = offline.union(options.topologies, ROOT)
    found: list[Source] = []
    for provider in (name for name in options.providers if name != "lxc"):
        for architecture in options.architectures:
            box = build.build(provider, report, architecture, packages)
            found.append((f"boxes/{architecture}/{provider}/{box.file.name}", box.file))
    return found


def _with(make: Callable[..., None], *arguments: object) -> Callable[[Path], None]:
    """A function of the target alone."""
    return lambda target: make(target, *arguments)
