"""Install from a bundle: unpack what this computer needs, and say where set-up finds it.

``scripts/up --bundle FILE`` calls this before anything is installed: standard library only. What
it unpacks is in ``.lab/bundle`` of the checkout, except for the package pool, which all share.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from provision.setup import pool_folder, system
from provision.setup.bundle import manifest
from provision.setup.bundle.archive import BundleError, Item, measure
from provision.setup.bundle.manifest import BundleManifest
from provision.setup.system import System

FOLDER = Path(".lab", "bundle")
"""In the checkout."""

RECORD = FOLDER / "installed.json"
"""The bundle that was unpacked; written last."""

IMAGES = FOLDER / "images.tar.zst"
LOCK = "requirements.lock"
ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}


@dataclass(frozen=True)
class Computer:
    """What decides which entries of a bundle are for a computer.

    Args:
        architecture: Debian's name of it.
        release: the code name of Debian; empty on other systems.
    """

    architecture: str
    release: str


def this_computer(detected: System | None = None) -> Computer:
    """The one that this runs on."""
    own = detected or system.detect()
    release = own.codename if own.family == "debian" else ""
    return Computer(ARCHITECTURES.get(own.arch, own.arch), release)


def targets(names: Mapping[str, Item], root: Path, computer: Computer) -> dict[str, Path]:
    """Where the entries for a computer are unpacked to, by name."""
    folder, pool = root / FOLDER, pool_folder.default_folder()
    places = {
        "wheels/": folder / "wheels",
        f"hosts/{computer.release or '-'}/{computer.architecture}/": folder / "host",
        f"sets/{computer.architecture}/": pool / pool_folder.SETS,
        "pool/": pool,
        f"boxes/{computer.architecture}/": folder / "boxes",
    }
    if sys.platform == "linux":
        places[f"images/{computer.architecture}.tar.zst"] = root / IMAGES
    return {
        name: place / name.removeprefix(prefix) if prefix.endswith("/") else place
        for name in names
        for prefix, place in places.items()
        if name.startswith(prefix)
    }


def record(root: Path) -> dict[str, Any]:
    """What was recorded about the bundle that a checkout was set up from; empty for none."""
    try:
        values = json.loads((root / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def install(file: Path, root: Path, key: str = "") -> BundleManifest:
    """Verify a bundle, then unpack it; a repeated call continues.

    Args:
        key: fingerprint of the key that must have signed it. A checkout keeps the key of its first
            bundle.

    Raises:
        BundleError: naming the first bad entry, before anything is written.
        OSError: when something cannot be read or written.
    """
    known = record(root)
    print(f"== verifying {file}", flush=True)
    verified, items = manifest.verify(file, key or str(known.get("key", "")))
    own = _digest(root / LOCK)
    if verified.locks.get(LOCK) != own:
        raise BundleError(
            LOCK, f"it is of another version of the project; python3 {file.name} unpacks that one"
        )
    with file.open("rb") as stream:
        identity = hashlib.sha256(manifest.content(stream, items[manifest.MANIFEST])).hexdigest()
    if known.get("manifest") == identity:
        print("== this bundle has been unpacked before", flush=True)
        return verified
    placed = targets(items, root, this_computer())
    _require_space(placed, items)
    size = sum(items[name].size for name in placed)
    print(f"== unpacking {size // 2**20} MiB of {file.stat().st_size // 2**20} MiB", flush=True)
    (root / RECORD).unlink(missing_ok=True)
    for folder in ("wheels", "host", "boxes"):
        shutil.rmtree(root / FOLDER / folder, ignore_errors=True)
    for name, path in placed.items():
        if not path.is_file() or measure(path)[2] != items[name].sha256:
            _extract(file, items[name], path)
    write_source(root)
    values = {
        "date": verified.date,
        "key": manifest.fingerprint(verified.key),
        "commit": verified.commit,
        "learners": verified.learners,
        "topologies": verified.topologies,
        "boxes": sorted({path.parent.name for path in placed.values() if path.suffix == ".box"}),
        "locks": dict(verified.locks),
        "manifest": identity,
    }
    temporary = root / RECORD.with_suffix(".new")
    temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    temporary.replace(root / RECORD)
    return verified


def _extract(file: Path, item: Item, path: Path) -> None:
    """Write an entry to its place; a file of the pool gets the pool's owner."""
    pool = pool_folder.default_folder()
    if not path.is_relative_to(pool):
        manifest.extract(file, item, path)
        return
    pool_folder.make_folder(pool, path.parent)
    manifest.extract(file, item, path)
    pool_folder.give_to_owner(pool, path)


def _require_space(placed: Mapping[str, Path], items: Mapping[str, Item]) -> None:
    """Refuse what would not fit, before anything is written."""
    needed: dict[Path, int] = {}
    for name, path in placed.items():
        folder = next(parent for parent in path.parents if parent.exists())
        needed[folder] = needed.get(folder, 0) + items[name].size
    for folder, size in needed.items():
        free = shutil.disk_usage(folder).free
        if free < size:
            raise BundleError(
                "the bundle", f"it needs {size >> 20} MiB in {folder}, where {free >> 20} are free"
            )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_source(root: Path) -> None:
    """Describe the repository with host packages for apt (sources.list(5), deb822-style)."""
    folder = (root / FOLDER / "host").absolute()
    if not (folder / "InRelease").exists():
        return
    key = (folder / "key.asc").read_text(encoding="ascii")
    lines = "\n".join(f" {line or '.'}" for line in key.splitlines())
    text = f"Types: deb\nURIs: file:{quote(str(folder))}\nSuites: ./\nSigned-By:\n{lines}\n"
    (root / FOLDER / "host.sources").write_text(text, encoding="ascii")
    (root / FOLDER / "lists").mkdir(exist_ok=True)


def is_current(root: Path, lock: str = LOCK) -> bool:
    """Whether a checkout was set up from a bundle that belongs to its lock file."""
    locks = record(root).get("locks", {})
    return bool(locks) and locks.get(lock) == _digest(root / lock)


def apt_options(root: Path) -> tuple[str, ...]:
    """Options of apt-get, each ``Name=value``: packages come from the bundle and nothing else.

    Empty when there is no bundle of this checkout, or none for this release.
    """
    folder = (root / FOLDER).absolute()
    if not is_current(root) or not (folder / "host.sources").exists():
        return ()
    return (
        f"Dir::Etc::SourceList={folder / 'host.sources'}",
        "Dir::Etc::SourceParts=-",
        f"Dir::State::Lists={folder / 'lists'}",
        "APT::Sandbox::User=root",  # which may not read the checkout
    )


def pip_options(root: Path, lock: str = LOCK) -> tuple[str, ...]:
    """Arguments of ``pip install``: wheels come from the bundle and nothing else.

    Empty when there is no bundle with the wheels of that lock file.
    """
    if not is_current(root, lock):
        return ()
    return ("--no-index", "--find-links", str((root / FOLDER / "wheels").absolute()))


def pip_wheel(root: Path) -> Path | None:
    """The wheel of pip, which can install itself into an environment without pip.

    So that Debian's package python3-venv is not needed: that of a bundle cannot be installed
    beside another version of Python than its own.
    """
    if not is_current(root):
        return None
    return next(iter(sorted((root / FOLDER / "wheels").absolute().glob("pip-*.whl"))), None)


UNPACK_IMAGES = """\
set -eu
umask 022
archive=$1 cache=$2 new=$2/.new.bundle
rm -rf --one-file-system "$new"
mkdir -p "$new" "$cache/images" "$cache/layers"
tar --extract --file="$archive" --directory="$new" --numeric-owner --acls --xattrs \\
    '--xattrs-include=*' --delay-directory-restore '--use-compress-program=zstd -d -q --long=27'
rm -f "$cache"/images/*/bundled "$cache"/layers/*/bundled
for folder in "$new"/images/* "$new"/layers/*; do
    [ -d "$folder" ] && [ ! -L "$folder" ] || continue
    target=$cache${folder#"$new"}
    [ -e "$target/root" ] || mv -T "$folder" "$target"
    : >"$target/bundled"
done
rm -rf --one-file-system "$new"
"""
"""As root, with the archive and the image store; an image has its name when it is complete.

The mark ``bundled`` keeps it from lab.prune: without a network, it cannot be built again.
"""


def image_command(root: Path) -> list[str]:
    """The command that unpacks the bundle's images as root; empty when there are none left."""
    if not record(root) or not (root / IMAGES).exists():
        return []
    cache = Path(os.environ.get("LAB_CACHE") or "/var/cache/foobar-lab").absolute()
    return ["sh", "-c", UNPACK_IMAGES, "sh", str((root / IMAGES).absolute()), str(cache)]


def images_unpacked(root: Path) -> None:
    """Remove the archive of the images, after `image_command` has succeeded."""
    (root / IMAGES).unlink(missing_ok=True)


def boxes(root: Path) -> Iterator[tuple[str, Path]]:
    """Vagrant's provider and the file of each box."""
    for path in sorted((root / FOLDER / "boxes").glob("*/*.box")):
        yield path.parent.name, path
