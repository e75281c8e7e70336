"""What goes into machine images, whoever builds them: configs/image.yml and the host's apt."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from provision.core import apt_source as aptsource
from provision.core.errors import ProviderError
from provision.core.lab import ROOT

RECIPE = ROOT / "configs" / "image.yml"
APT = Path("/etc/apt")
USER = "lab"
"""The account that the controller logs in as: any command as root, no password."""

# What a host's administrator may have had to set for its package sources to work at all.
_CARRIED = re.compile(
    r"Acquire::(Check-Valid-Until|Check-Date|Max-FutureTime|(http|https)::Proxy(::[^ ]+)?)"
)


@dataclass(frozen=True)
class Recipe:
    """What a base image is made of.

    Args:
        suite: Debian's name of the release.
        packages: names, beside those that every Debian has.
        mirror: address of Debian's main archive.
        apt: lines for apt.conf that this host's package sources need.
    """

    suite: str
    packages: tuple[str, ...]
    mirror: str
    apt: tuple[str, ...]


def recipe(file: Path = RECIPE) -> Recipe:
    """What to build on this host.

    Raises:
        ProviderError: when no Debian archive is known here.
    """
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    return Recipe(
        suite=str(data["suite"]),
        packages=tuple(sorted(data["packages"])),
        mirror=mirror(),
        apt=apt_settings(),
    )


def mirror(environ: Mapping[str, str] = os.environ, apt: Path = APT) -> str:
    """The address of Debian's main archive that this host uses, or LAB_MIRROR.

    Raises:
        ProviderError: when the host names none.
    """
    if environ.get("LAB_MIRROR"):
        return environ["LAB_MIRROR"].rstrip("/")
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    sources = {
        str(path): path.read_text(encoding="utf-8", errors="replace")
        for path in files
        if path.suffix in (".list", ".sources") and path.is_file()
    }
    found = aptsource.main_archive(sources)
    if found.startswith("mirror+file:"):  # cloud images: a file that lists addresses
        listed = Path(found.removeprefix("mirror+file:")).read_text(encoding="utf-8")
        found = next(iter(listed.split()), "").rstrip("/")
    if not found:
        raise ProviderError(
            f"no package source of Debian is configured in {apt} on this host",
            "name one: LAB_MIRROR=<address of a Debian archive, ending in /debian> scripts/up",
        )
    return found


def apt_settings(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Lines for apt.conf: what this host sets for its sources, and time-outs."""
    try:
        dump = subprocess.run(
            ["apt-config", "dump"], capture_output=True, text=True, check=True, timeout=20
        ).stdout
    except (OSError, subprocess.SubprocessError):
        dump = ""
    return settings_in(dump, environ)


def settings_in(dump: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Those settings of ``apt-config dump`` that must hold in machines too.

    Args:
        dump: lines such as ``Acquire::Check-Valid-Until "false";``.
        environ: where ``http_proxy`` may stand instead.
    """
    carried: dict[str, str] = {}
    for line in dump.splitlines():
        name, _, value = line.rstrip(";").partition(" ")
        if _CARRIED.fullmatch(name) and value.strip('"'):
            carried[name] = value
    for scheme in ("http", "https"):
        proxy = environ.get(f"{scheme}_proxy", "")
        if proxy and '"' not in proxy:
            carried.setdefault(f"Acquire::{scheme}::Proxy", f'"{proxy}"')
    lines = [f"{name} {value};" for name, value in sorted(carried.items())]
    return (
        *lines,
        # A source that does not answer is an error after half a minute, not a night.
        'Acquire::http::Timeout "20";',
        'Acquire::https::Timeout "20";',
        'Acquire::Retries "1";',
        'Acquire::Languages "none";',
    )
