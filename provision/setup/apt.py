"""Install Debian packages on this host."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from provision.setup import host_os, packages
from provision.setup.console import LOG, SetupError, say, succeeds
from provision.setup.privileges import as_root
from provision.setup.system import OS_RELEASE, parse_os_release
from provision.setup.virtual_environment import program

UPDATES = Path("/var/lib/dpkg/updates")
"""Contains files while a package installation is incomplete (dpkg)."""

BACKPORTS = Path("/etc/apt/sources.list.d/lab-backports.list")

QEMU = ("qemu-system-x86", "qemu-system-arm", "qemu-utils")
"""They must have the same version."""

OPTIONS = (
    "Acquire::http::Timeout=20",
    "Acquire::https::Timeout=20",
    "Acquire::Retries=1",
    "DPkg::Lock::Timeout=300",
    "Dpkg::Options::=--force-confold",
)


@dataclass(frozen=True)
class PackageSources:
    """Where packages come from; by default, from the sources that this host is configured with.

    Args:
        apt: further options of apt-get, each ``Name=value``.
        pip: further arguments of ``pip install``.
    """

    apt: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()


HOST_SOURCES = PackageSources()


def apt_get(*arguments: str, sources: PackageSources = HOST_SOURCES) -> list[str | Path]:
    """The command line of apt-get as root, without questions."""
    options = [word for option in (*OPTIONS, *sources.apt) for word in ("-o", option)]
    argv = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", *options, *arguments]
    return as_root(argv)


def parse_status(listing: str, names: Collection[str]) -> list[str]:
    """The packages that are not installed.

    Args:
        listing: of dpkg-query, a package and its status (such as ``installed``) per line.
    """
    installed = {line.split()[0] for line in listing.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in installed]


def missing(names: Collection[str]) -> list[str]:
    """The packages that are not installed on this host."""
    shown = "--showformat=${Package} ${db:Status-Status}\\n"
    return parse_status(host_os.output_of(["dpkg-query", "--show", shown, *names]), names)


def install(names: Collection[str], sources: PackageSources = HOST_SOURCES) -> None:
    """Install what is missing; package lists are updated only if the current ones do not suffice.

    Raises:
        SetupError: when packages cannot be installed.
    """
    if shutil.which("apt-get") is None:
        say("apt-get not found: install the required packages yourself (scripts/doctor lists them)")
        return
    wanted = missing(names)
    if not wanted:
        return
    if UPDATES.is_dir() and any(UPDATES.iterdir()):
        say("completing an interrupted package installation")
        succeeds(as_root(["dpkg", "--configure", "-a"]))
    say(f"installing {' '.join(wanted)}")
    arguments = ("install", "--no-install-recommends", *wanted)
    if all(
        succeeds(apt_get(*words, sources=sources), shown=False)
        for words in (("--simulate", *arguments), arguments)
    ):
        return
    say("updating the package lists")
    update(sources)
    if not succeeds(apt_get(*arguments, sources=sources)):
        raise SetupError(
            f"packages could not be installed; see {LOG}",
            f"sudo apt-get install --no-install-recommends {' '.join(wanted)}",
        )


def update(sources: PackageSources = HOST_SOURCES) -> None:
    """Update the package lists.

    Raises:
        SetupError: when a source does not respond.
    """
    if not succeeds(apt_get("update", sources=sources)):
        raise SetupError(
            "the package sources of this host cannot be reached (see the lines above)",
            "sudo apt-get update    # then run this again",
        )


def install_virtual_machines() -> None:
    """Install Vagrant with libvirt, and a QEMU that runs Debian 13.

    QEMU 7.2 (Debian 12) emulates cmpxchg16b incorrectly, which Debian 13's kernel uses;
    bookworm-backports has a newer QEMU. Requires the .venv: the lab's code reads the archive's
    address from apt's configuration.

    Raises:
        SetupError: when packages cannot be installed.
    """
    release = parse_os_release(host_os.read_text(OS_RELEASE))
    if release.get("VERSION_CODENAME") == "bookworm" and not _has_new_qemu():
        code = "from provision.providers.image_recipe import mirror; print(mirror())"
        mirror = host_os.output_of([str(program("python")), "-c", code]).strip()
        say("installing QEMU from bookworm-backports")
        line = f"deb [signed-by={packages.KEYRING}] {mirror} bookworm-backports main\n"
        _write_as_root(BACKPORTS, line)
        update()
        words = ("install", "--no-install-recommends", "-t", "bookworm-backports", *QEMU)
        if not succeeds(apt_get(*words)):
            what = f"QEMU could not be installed from bookworm-backports; see {LOG}"
            raise SetupError(what)
    install(packages.VIRTUAL_MACHINES)


def _has_new_qemu() -> bool:
    shown = "--showformat=${Version}"
    versions = [host_os.output_of(["dpkg-query", "--show", shown, name]) or "0" for name in QEMU]
    return all(
        succeeds(["dpkg", "--compare-versions", version, "ge", "1:10"], shown=False)
        for version in versions
    )


def _write_as_root(path: Path, text: str) -> None:
    script = 'printf %s "$1" >"$2"'
    words: Sequence[str | Path] = ["sh", "-c", script, "sh", text, path]
    if not succeeds(as_root(words)):
        raise SetupError(f"{path} cannot be written; see {LOG}")
