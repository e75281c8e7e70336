"""What can be put into a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from provision.core.errors import not_among
from provision.operations.bundle.hosts import RELEASES
from provision.operations.bundle.wheels import PLATFORMS, PYTHONS

PROVIDERS = ("lxc", "libvirt", "virtualbox")
ARCHITECTURES = ("amd64", "arm64")
ALL = "all"


@dataclass(frozen=True)
class Options:
    """What to put into a bundle; the fields are those of `BundleManifest`.

    Args:
        pythons: versions, such as ``3.13``.
    """

    topologies: tuple[str, ...]
    providers: tuple[str, ...] = ("lxc",)
    architectures: tuple[str, ...] = ("amd64",)
    releases: tuple[str, ...] = tuple(RELEASES)
    platforms: tuple[str, ...] = ("linux-amd64",)
    pythons: tuple[str, ...] = ("3.11", "3.13")
    tests: bool = True
    learners: bool = False


def listed(text: str, known: Sequence[str], what: str) -> tuple[str, ...]:
    """The names in a list separated by commas, in the known order; ``all`` for all.

    Args:
        what: for messages, such as ``provider``.

    Raises:
        UsageError: for an unknown name, or none.
    """
    if text == ALL:
        return tuple(known)
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        first = unknown[0] if unknown else text
        named = ", ".join(map(repr, unknown)) or repr(text)
        raise not_among(f"unknown {what} {named}", first, known, f", or {ALL}")
    return tuple(name for name in known if name in names)


def parse(
    known_topologies: Sequence[str],
    own_architecture: str,
    *,
    topologies: str = ALL,
    providers: str = "lxc",
    arch: str = "",
    hosts: str = ALL,
    platforms: str = "",
    pythons: str = "3.11,3.13",
    tests: bool = True,
    learners: bool = False,
) -> Options:
    """The options from the texts of the command line.

    Args:
        own_architecture: of this computer, which is the default.

    Raises:
        UsageError: for an unknown name.
    """
    architectures = listed(arch or own_architecture, ARCHITECTURES, "architecture")
    chosen = listed(providers, PROVIDERS, "provider")
    own_platforms = ",".join(f"linux-{name}" for name in architectures)
    return Options(
        listed(topologies, known_topologies, "topology"),
        chosen,
        architectures,
        listed(hosts, tuple(RELEASES), "Debian release"),
        listed(platforms or own_platforms, tuple(PLATFORMS), "platform"),
        listed(pythons, PYTHONS, "Python"),
        tests,
        learners,
    )
