"""The manifest of a bundle: what it contains, with hashes, signed by a key made for bundles."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from provision.setup.bundle import archive
from provision.setup.bundle.archive import BundleError, Item
from provision.setup.bundle.ed25519 import verify as verify_signature

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
VERSION = 1
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
LISTS = ("providers", "topologies", "architectures", "releases", "platforms")
LARGEST = 64 * 2**20
"""Bytes of a manifest; larger ones are not read."""

_PART = re.compile(r"[A-Za-z0-9_@%+=,.~!()-]+")


@dataclass(frozen=True)
class BundleManifest:
    """What a bundle contains.

    Args:
        date: of its newest part, UTC, ISO 8601; not the time at which the file was written, so that
            the same inputs give the same file.
        key: the public key that signs it, in hexadecimal.
        commit: of the project.
        architectures: Debian's names of the architectures of hosts.
        releases: Debian releases of hosts.
        platforms: for which there are wheels.
        tests: whether ``scripts/test`` works, too.
        learners: whether solutions of drills are left out.
        locks: SHA-256 of the lock files whose wheels it has, by name.
        entries: size and SHA-256 by name, in the order of the file.
    """

    version: int
    date: str
    key: str
    commit: str
    providers: tuple[str, ...]
    topologies: tuple[str, ...]
    architectures: tuple[str, ...]
    releases: tuple[str, ...]
    platforms: tuple[str, ...]
    tests: bool
    learners: bool
    locks: Mapping[str, str]
    entries: Mapping[str, tuple[int, str]]

    def encoded(self) -> bytes:
        """The bytes that are signed."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()


def is_plain(name: str) -> bool:
    """Whether a name is that of a file below a folder, on every system.

    Not absolute, no ``..``, no drive, no stream (``:``), nothing that Windows cuts off or refuses.
    """
    parts = name.split("/")
    return all(
        _PART.fullmatch(part) and not part.endswith(".") and not _RESERVED.fullmatch(part)
        for part in parts
    )


def fingerprint(key: str) -> str:
    """How a person compares a key: groups of hexadecimal digits of its hash."""
    digest = hashlib.sha256(bytes.fromhex(key)).hexdigest()[:32]
    return "-".join(digest[i : i + 4] for i in range(0, 32, 4))


def load(data: bytes) -> BundleManifest:
    """A manifest from its bytes.

    Raises:
        BundleError: when it is not one of this version.
    """
    try:
        values = json.loads(data)
        if values["version"] != VERSION:
            why = f"it has version {values['version']}, and this checkout reads {VERSION}"
            raise BundleError(MANIFEST, why)
        entries = {str(k): (int(v[0]), str(v[1])) for k, v in values["entries"].items()}
        for name in LISTS:
            values[name] = tuple(map(str, values[name]))
        locks = {str(k): str(v) for k, v in values["locks"].items()}
        manifest = BundleManifest(**{**values, "locks": locks, "entries": entries})
        bytes.fromhex(manifest.key)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise BundleError(MANIFEST, f"it is damaged ({error})") from None
    for name in entries:
        if not is_plain(name):
            raise BundleError(name, "its name is not that of a file in a bundle")
    return manifest


def verify(
    path: Path, key: str = "", progress: Callable[[str], None] = lambda _name: None
) -> tuple[BundleManifest, dict[str, Item]]:
    """Read a whole bundle and compare every byte with its signed manifest. Changes nothing.

    The result contains all entries by name, also the manifest and its signature.

    Args:
        key: fingerprint of the key that must have signed it; empty for any.
        progress: called with the name of each entry that is good.

    Raises:
        BundleError: naming the first bad entry.
        OSError: when the file cannot be read.
    """
    with path.open("rb") as file:
        entries = archive.read(file)
        manifest, head = _manifest(file, entries, key)
        items: dict[str, Item] = dict(head)
        expected = iter(manifest.entries.items())
        for item in entries:
            name, (size, digest) = next(expected, ("", (0, "")))
            if item.name != name:
                known = item.name in manifest.entries
                if not known:
                    raise BundleError(item.name, "it is not in the manifest")
                raise BundleError(name or item.name, f"it is missing; {item.name} is in its place")
            if (item.size, item.sha256) != (size, digest):
                raise BundleError(name, "its content is not that of the manifest")
            items[name] = item
            progress(name)
        missing = next(expected, None)
        if missing is not None:
            raise BundleError(missing[0], "it is missing")
    return manifest, items


def _take(entries: Iterator[Item], name: str) -> Item:
    """The next entry, which must have a name."""
    item = next(entries, None)
    if item is None or item.name != name:
        raise BundleError(name, "it is missing: this is not a bundle")
    return item


def _manifest(
    file: BinaryIO, entries: Iterator[Item], key: str
) -> tuple[BundleManifest, dict[str, Item]]:
    """The manifest, and the first two entries by name."""
    head = {name: _take(entries, name) for name in (MANIFEST, SIGNATURE)}
    data, signature = (content(file, item) for item in head.values())
    manifest = load(data)
    try:
        good = verify_signature(
            bytes.fromhex(manifest.key), data, bytes.fromhex(signature.decode())
        )
    except ValueError:
        good = False
    if not good:
        raise BundleError(SIGNATURE, "it is not the signature of the manifest")
    if key and fingerprint(manifest.key) != key:
        own = fingerprint(manifest.key)
        raise BundleError(SIGNATURE, f"it was made with the key {own}, not with {key}")
    return manifest, head


def content(file: BinaryIO, item: Item) -> bytes:
    """The content of a small entry; the position in the file is kept."""
    if item.size > LARGEST:
        raise BundleError(item.name, "it is too large")
    position = file.tell()
    file.seek(item.offset)
    data = file.read(item.size)
    file.seek(position)
    return data


def extract(path: Path, item: Item, target: Path) -> None:
    """Write an entry of a verified bundle to a file; compares it again.

    Raises:
        BundleError: when the file was altered meanwhile.
    """
    digest, remaining = hashlib.sha256(), item.size
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".new.{target.name}")
    with path.open("rb") as file, temporary.open("wb") as out:
        file.seek(item.offset)
        while remaining and (data := file.read(min(archive.CHUNK, remaining))):
            digest.update(data)
            out.write(data)
            remaining -= len(data)
    if digest.hexdigest() != item.sha256:
        temporary.unlink()
        raise BundleError(item.name, "it was altered while it was read")
    temporary.replace(target)
