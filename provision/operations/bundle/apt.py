"""apt in a folder of its own: resolves and downloads packages for another release or architecture.

It knows no installed package, so a download contains everything that its packages depend on.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from provision.core import apt_source
from provision.core.pool.pool import Pool
from provision.core.pool.server import serving
from provision.core.pool.store import CANONICAL
from provision.operations.bundle.programs import run

HINT = "check this host's network (sudo apt-get update), then run this again: it continues"


@dataclass(frozen=True)
class Suite:
    """A suite of a Debian archive.

    Args:
        url: of the archive.
    """

    name: str
    url: str = CANONICAL

    @property
    def line(self) -> str:
        """The line of sources.list(5)."""
        return f"deb [signed-by={apt_source.KEYRING}] {self.url} {self.name} main\n"


@dataclass(frozen=True)
class Apt:
    """An apt with package lists of its own; see `apt`.

    Args:
        options: of apt's programs.
    """

    folder: Path
    options: tuple[str, ...]

    def download(self, names: Sequence[str], target: str = "") -> list[Path]:
        """Download packages, with everything that they depend on.

        Args:
            target: a release that the packages are taken from where it has them.

        Raises:
            LabError: when a package does not exist or cannot be downloaded.
        """
        install = ["install", "--download-only", "--yes", "--no-install-recommends"]
        release = ["--target-release", target] if target else []
        argv = ["apt-get", "-q", *self.options, *install, *release, *names]
        run("downloading packages", argv, _environ(), hint=HINT)
        return sorted((self.folder / "archives").glob("*.deb"))

    def required(self) -> list[str]:
        """The packages of Debian's minimal system (debootstrap's variant minbase)."""
        argv = ["apt-cache", *self.options, "dumpavail"]
        stanzas = run("reading package lists", argv, _environ()).decode().split("\n\n")
        names = {"apt"}
        for stanza in stanzas:
            if re.search(r"^(Priority: required|Essential: yes)$", stanza, re.MULTILINE):
                names |= set(re.findall(r"^Package: (.+)$", stanza, re.MULTILINE))
        return sorted(names)

    def candidates(self, names: Iterable[str]) -> dict[str, str]:
        """The newest version of each package that the sources have, by name."""
        argv = ["apt-cache", *self.options, "policy", *sorted(names)]
        text = run("reading package lists", argv, _environ()).decode()
        found = re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (.+)$", text, re.MULTILINE)
        return {name: version for name, version in found if version != "(none)"}


def _environ() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "APT_CONFIG": "/dev/null"}


@contextmanager
def apt(
    folder: Path,
    architecture: str,
    sources: Sequence[Suite],
    pool: Pool,
    settings: Sequence[str] = (),
    preferences: str = "",
) -> Iterator[Apt]:
    """An apt whose package lists have been read through the package pool.

    Args:
        folder: for its files; removed afterwards.
        settings: lines for apt.conf.
        preferences: the content of apt_preferences(5).

    Raises:
        LabError: when a package list cannot be read.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("lists/partial", "archives/partial", "etc"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text("".join(source.line for source in sources))
    (folder / "preferences").write_text(preferences)
    with serving(pool) as proxy:
        text = [*settings, *(_setting(*option.split("=", 1)) for option in pool.apt_options())]
        text += [_setting(name, value) for name, value in _settings(folder, proxy).items()]
        text += [_setting("APT::Architecture", architecture)]
        text += [f'APT::Architectures {{ "{architecture}"; }};']
        (folder / "apt.conf").write_text("\n".join(text) + "\n")
        made = Apt(folder, ("-c", str(folder / "apt.conf")))
        update = ["apt-get", "-q", *made.options, "update", "-oAPT::Update::Error-Mode=any"]
        run("reading package lists", update, _environ(), hint=HINT)
        yield made
    shutil.rmtree(folder)


def _setting(name: str, value: str) -> str:
    return f'{name} "{value}";'


def _settings(folder: Path, proxy: str) -> Mapping[str, str]:
    return {
        "Dir::State": str(folder),
        "Dir::State::Lists": str(folder / "lists"),
        "Dir::State::status": str(folder / "status"),
        "Dir::Cache": str(folder),
        "Dir::Cache::archives": str(folder / "archives"),
        "Dir::Etc": str(folder / "etc"),
        "Dir::Etc::SourceList": str(folder / "sources.list"),
        "Dir::Etc::SourceParts": "-",
        "Dir::Etc::Preferences": str(folder / "preferences"),
        "Dir::Etc::PreferencesParts": "-",
        "Acquire::http::Proxy": proxy,
        "Acquire::http::Timeout": "600",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "1",
    }
