"""The files of the package pool: ``<pool>/<archive>/<path>``, the same for every mirror."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from provision.setup.pool_folder import SETS as SETS
from provision.setup.pool_folder import default_folder as default_folder
from provision.setup.pool_folder import give_to_owner as give_to_owner
from provision.setup.pool_folder import make_folder as make_folder

CANONICAL = "http://debian.invalid/debian"
"""Debian's main archive in images, whatever mirror they were built from: the pool knows the mirror.

No host has this name (RFC 6761), so nothing is downloaded from a mirror that is not configured."""

PARTIAL = ".partial"
"""Folder in the pool for downloads until they are complete."""

STALE = ".stale"
"""In the pool: package lists that were recorded before this file are read from the archive."""

_URL = re.compile(
    r"(?P<base>https?://(?P<host>[A-Za-z0-9.:\[\]-]+)(?P<folder>(?:/[\w.+~-]+)*?))"
    r"/(?P<path>(?:dists|pool)/[\w.+~%:/-]+)"
)
_SHARED = ("debian", "debian-security")
"""Archives that have the same content on every mirror."""


@dataclass(frozen=True)
class Entry:
    """A file of a Debian archive.

    Args:
        archive: ``debian``, ``debian-security``, or host and folder of another archive.
        base: URL of the archive, as it was asked for.
        path: below the archive, such as ``dists/trixie/InRelease``.
    """

    archive: str
    base: str
    path: str

    @property
    def name(self) -> str:
        """The path below the pool, with ``/`` on every system."""
        return f"{self.archive}/{self.path}"

    @property
    def immutable(self) -> bool:
        """Whether the file never changes: packages, and lists that are named by their hash."""
        return self.path.startswith("pool/") or "/by-hash/" in self.path


def parse_url(url: str) -> Entry | None:
    """The file of a Debian archive that a URL names; None for any other URL."""
    match = _URL.fullmatch(url)
    if match is None or ".." in match["path"].split("/"):
        return None
    last = match["folder"].rpartition("/")[2]
    own = re.sub(r"[^\w.-]", "_", match["host"] + match["folder"])
    return Entry(last if last in _SHARED else own, match["base"], match["path"])


def plain(name: str) -> str:
    """The name of a stored file in the archive's own lists; apt quotes ``+`` in URLs."""
    return unquote(name.replace("%3A", ":").replace("%25", "%"))


def path_of(store: Path, entry: Entry) -> Path:
    """Where a file is in the pool; ``:`` is encoded, since Windows refuses it in names."""
    return store / entry.archive / encoded(entry.path)


def encoded(name: str) -> str:
    """A path of an archive as the pool stores it."""
    return name.replace("%", "%25").replace(":", "%3A")


def problem(entry: Entry, file: Path) -> str:
    """Why a download is not what was asked for, or empty.

    A portal of a hotel or school responds with a page of its own to every request.
    """
    import hashlib

    name = entry.path.rpartition("/")[2]
    with file.open("rb") as stream:
        start = stream.read(64)
        if "/by-hash/" in entry.path:
            kind = entry.path.split("/by-hash/")[1].split("/")[0].lower()
            if kind not in ("sha256", "sha512", "md5sum"):
                return f"unknown kind of hash {kind!r}"
            stream.seek(0)
            digest = hashlib.file_digest(stream, kind.removesuffix("sum")).hexdigest()
            return "" if digest == name.lower() else f"its {kind} is {digest}"
    if name.endswith(".deb") and not start.startswith(b"!<arch>\n"):
        return "it is not a Debian package"
    if name == "InRelease" and not start.startswith(b"-----BEGIN PGP SIGNED MESSAGE-----"):
        return "it is not a signed list"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "it is a web page"
    return ""


def is_expired(release: Path, now: float) -> bool:
    """Whether the Valid-Until of a signed list has passed; seconds since the epoch."""
    import email.utils

    with release.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if line.startswith("Valid-Until:"):
                date = email.utils.parsedate_to_datetime(line.partition(":")[2].strip())
                return date.timestamp() < now
            if line.startswith(("SHA256:", "MD5Sum:")):
                break
    return False


def files(store: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of every recorded file, sorted by name; none that is being written."""
    for path in sorted(store.rglob("*")):
        relative = path.relative_to(store)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            yield relative.as_posix(), path


def temporary(store: Path) -> Path:
    """A new empty file in the pool for a download."""
    import tempfile

    folder = store / PARTIAL
    make_folder(store, folder)
    number, name = tempfile.mkstemp(dir=folder)
    os.close(number)
    return Path(name)
