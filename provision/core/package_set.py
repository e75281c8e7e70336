"""The Debian packages that a machine needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PackageSet:
    """Packages that a provider can install into an image.

    Args:
        packages: from the machine's own Debian release.
        sid: from sid, by pinning; no other package comes from sid.
    """

    packages: tuple[str, ...] = ()
    sid: tuple[str, ...] = ()
