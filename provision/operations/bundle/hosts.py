"""Debian packages for hosts: one flat repository per release and architecture, signed."""

from __future__ import annotations

import email.utils
import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provision.core import apt_source
from provision.core.pool.pool import Pool
from provision.operations.bundle import openpgp
from provision.operations.bundle.apt import Apt, Suite, apt
from provision.operations.bundle.programs import run
from provision.setup import packages as names

OWNER = "foobar-lab bundle"
DATE = "date"
"""A file beside the packages: the time of the package lists, in seconds since the epoch."""

QEMU_PREFERENCES = """\
Package: qemu-* ipxe-qemu seabios
Pin: release n=bookworm-backports
Pin-Priority: 990
"""
"""Debian 12's QEMU 7.2 does not run the kernel of Debian 13."""


@dataclass(frozen=True)
class HostRelease:
    """A release of Debian on hosts.

    Args:
        newer: suites of the main archive with newer packages.
        preferences: apt's pins for the packages of virtual machines.
    """

    name: str
    newer: tuple[str, ...] = ()
    preferences: str = ""

    def sources(self, security: str) -> list[Suite]:
        """Where its packages come from.

        Args:
            security: URL of the security archive; empty when this host uses none.
        """
        sources = [Suite(suite) for suite in (self.name, f"{self.name}-updates", *self.newer)]
        return [*sources, *([Suite(f"{self.name}-security", security)] if security else [])]

    def without_vm(self, without: bool = True) -> HostRelease:
        """The same release without what only virtual machines need."""
        return HostRelease(self.name) if without else self


RELEASES = {
    "bookworm": HostRelease("bookworm", ("bookworm-backports",), QEMU_PREFERENCES),
    "trixie": HostRelease("trixie"),
}


def security_archive(sources: Mapping[str, str]) -> str:
    """The URL of the security archive in apt's source files; empty if there is none."""
    entries = (
        entry
        for name, text in sorted(sources.items())
        for entry in apt_source.parse(name, text)
        if entry.suite.endswith("-security")
    )
    return next((entry.uri.rstrip("/") for entry in entries), "")


def download(
    target: Path,
    release: HostRelease,
    architecture: str,
    names: Sequence[str],
    pool: Pool,
    settings: Sequence[str],
    security: str,
) -> None:
    """Download packages to a new folder, with everything that they depend on, and their index.

    Args:
        settings: lines for apt.conf.
        security: see `HostRelease.sources`.

    Raises:
        LabError: when a package does not exist or cannot be downloaded.
    """
    target.mkdir()
    work = target.with_name(f".apt.{target.name}")
    sources = release.sources(security)
    with apt(work, architecture, sources, pool, settings, release.preferences) as own:
        for deb in own.download(names):
            deb.replace(target / re.sub("%3a", "_", deb.name, flags=re.IGNORECASE))
        (target / DATE).write_text(f"{list_time(own)}\n")
    shutil.rmtree(work, ignore_errors=True)
    index = b"".join(stanza(deb) for deb in sorted(target.glob("*.deb")))
    (target / "Packages").write_bytes(index)


def list_time(own: Apt) -> int:
    """The time of the newest package list, in seconds since the epoch."""
    return max(release_time(path) for path in (own.folder / "lists").glob("*InRelease"))


def release_time(path: Path) -> int:
    """The date of an ``InRelease`` file, in seconds since the epoch."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("Date:"):
                return int(email.utils.parsedate_to_datetime(line[5:].strip()).timestamp())
    return 0


def stanza(deb: Path) -> bytes:
    """The entry of a package in the index of a flat repository."""
    fields = run("reading a package", ["dpkg-deb", "--field", str(deb)]).rstrip(b"\n")
    with deb.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    more = f"\nFilename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n\n"
    return fields + more.encode()


def signed_release(folder: Path, release: str, architecture: str, key: Ed25519PrivateKey) -> bytes:
    """The content of ``InRelease`` for a folder of packages."""
    index = (folder / "Packages").read_bytes()
    seconds = int((folder / DATE).read_text())
    text = (
        "Origin: foobar-lab\nLabel: foobar-lab bundle\n"
        f"Suite: {release}\nCodename: {release}\n"
        f"Date: {email.utils.formatdate(seconds, usegmt=True)}\nArchitectures: {architecture}\n"
        f"SHA256:\n {hashlib.sha256(index).hexdigest()} {len(index)} Packages\n"
    )
    return openpgp.clear_signed(key, text, seconds).encode()


def certificate(key: Ed25519PrivateKey) -> bytes:
    """The key that apt verifies the repositories with."""
    return openpgp.certificate(key, OWNER).encode()


def packages(*, tests: bool, vm: bool) -> list[str]:
    """The Debian packages that scripts/up installs, and those of scripts/test and Vagrant."""
    found = {*names.RUN, *(names.TEST if tests else ()), *(names.VIRTUAL_MACHINES if vm else ())}
    return sorted(found)
