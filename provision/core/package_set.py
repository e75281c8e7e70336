"""Which Debian packages a machine needs, and which of them come from sid."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PackageSet:
    """What a machine will need, told to a provider that can put it into an image beforehand.

    Args:
        packages: names from the machine's own Debian release.
        sid: names that are taken from sid (pinned; everything else of sid stays out).
    """

    packages: tuple[str, ...] = ()
    sid: tuple[str, ...] = ()
