"""The inputs of machine images: the packages in configs/image.yml, and this host's apt settings."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from provision.core import apt_source
from provision.core.lab import ROOT
from provision.core.pool.store import CANONICAL

RECIPE = ROOT / "configs" / "image.yml"
APT = Path("/etc/apt")
USER = "lab"
"""The account that the controller logs in as: sudo without a password, no password login."""

# Settings without which the package sources of some hosts do not work.
_COPIED_SETTINGS = re.compile(
    r"Acquire::(Check-Valid-Until|Check-Date|Max-FutureTime|(http|https)::Proxy(::[^ ]+)?)"
)


@dataclass(frozen=True)
class Recipe:
    """The inputs of a base image.

    Args:
        suite: code name of the Debian release.
        packages: in addition to Debian's minimal system.
        mirror: URL of Debian's main archive, as this host uses it; no part of an image.
        apt: lines for apt.conf that this host needs; no part of an image.
    """

    suite: str
    packages: tuple[str, ...]
    mirror: str
    apt: tuple[str, ...]


def load_recipe(file: Path = RECIPE) -> Recipe:
    """The recipe for images that are built on this host."""
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    return Recipe(
        suite=str(data["suite"]),
        packages=tuple(sorted(data["packages"])),
        mirror=mirror(),
        apt=apt_settings(),
    )


def mirror(environ: Mapping[str, str] = os.environ, apt: Path = APT) -> str:
    """The URL of Debian's main archive: LAB_MIRROR, else the one that this host uses.

    A host without one, or with sources on its own disk only, has what the package pool recorded.
    """
    if environ.get("LAB_MIRROR"):
        return environ["LAB_MIRROR"].rstrip("/")
    url = apt_source.main_archive(source_files(apt))
    if url.startswith("mirror+file:"):  # cloud images: a file with a list of URLs
        urls = Path(url.removeprefix("mirror+file:")).read_text(encoding="utf-8")
        url = next(iter(urls.split()), "").rstrip("/")
    return url if url.startswith(("http://", "https://")) else CANONICAL


def source_files(apt: Path = APT) -> dict[str, str]:
    """The content of this host's package sources, by path."""
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    return {
        str(path): path.read_text(encoding="utf-8", errors="replace")
        for path in files
        if path.suffix in (".list", ".sources") and path.is_file()
    }


def apt_settings() -> tuple[str, ...]:
    """Lines for apt.conf: this host's settings for its package sources."""
    try:
        dump = subprocess.run(
            ["apt-config", "dump"], capture_output=True, text=True, check=True, timeout=20
        ).stdout
    except (OSError, subprocess.SubprocessError):
        dump = ""
    return parse_apt_settings(dump, os.environ)


def parse_apt_settings(dump: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The settings of ``apt-config dump`` that machines need too.

    Args:
        dump: lines such as ``Acquire::Check-Valid-Until "false";``.
        environ: ``http_proxy`` and ``https_proxy`` apply when apt has no proxy.
    """
    settings: dict[str, str] = {}
    for line in dump.splitlines():
        name, _, value = line.rstrip(";").partition(" ")
        if _COPIED_SETTINGS.fullmatch(name) and value.strip('"'):
            settings[name] = value
    for scheme in ("http", "https"):
        proxy = environ.get(f"{scheme}_proxy", "")
        if proxy and '"' not in proxy:
            settings.setdefault(f"Acquire::{scheme}::Proxy", f'"{proxy}"')
    return tuple(f"{name} {value};" for name, value in sorted(settings.items()))


def is_proxy(setting: str) -> bool:
    """Whether a line of `apt_settings` is about a proxy, which the pool uses instead of apt."""
    return "::Proxy" in setting
