"""Debian package sources: parse a host's apt files, and generate those of machines.

Images and lab.up use the same text, so that lab.up changes nothing on a machine from an image.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from provision.setup.packages import KEYRING as KEYRING

SOURCES = "/etc/apt/sources.list.d/debian.sources"
SID_LIST = "/etc/apt/sources.list.d/lab-sid.list"
SID_PREFERENCES = "/etc/apt/preferences.d/lab-sid"

_RELEASES = re.compile(
    r"(oldoldstable|oldstable|stable|testing|unstable|sid|bookworm|trixie|forky|duke)"
)


@dataclass(frozen=True)
class AptSource:
    """A binary package source."""

    uri: str
    suite: str
    components: tuple[str, ...]


def debian_sources(mirror: str, suite: str) -> str:
    """The content of a machine's `SOURCES`, for a mirror of Debian's main archive."""
    return (
        f"Types: deb\nURIs: {mirror.rstrip('/')}\nSuites: {suite}\nComponents: main\n"
        f"Signed-By: {KEYRING}\n"
    )


def sid_list(mirror: str) -> str:
    """The content of `SID_LIST`, for a mirror of Debian's main archive."""
    return f"deb [signed-by={KEYRING}] {mirror.rstrip('/')} sid main\n"


def sid_preferences(names: Iterable[str]) -> str:
    """The content of `SID_PREFERENCES`: only these packages come from sid (apt_preferences(5))."""
    return (
        "Package: *\nPin: release n=sid\nPin-Priority: 100\n\n"
        f"Package: {' '.join(sorted(set(names)))}\nPin: release n=sid\nPin-Priority: 990\n"
    )


def main_archive(sources: Mapping[str, str]) -> str:
    """The URI of Debian's main archive in apt's source files; empty if there is none.

    Other archives use the same names of suites and components, so one whose path ends in
    ``/debian`` is preferred.

    Args:
        sources: content by file name; ``*.sources`` are deb822, all others one-line style.
    """
    uris = [
        entry.uri.rstrip("/")
        for name, text in sorted(sources.items())
        for entry in parse(name, text)
        if "main" in entry.components
        and _RELEASES.fullmatch(entry.suite)
        and not entry.uri.startswith(("cdrom:", "file:", "copy:"))
        and not urlsplit(entry.uri).path.rstrip("/").endswith("-security")
    ]
    return next((uri for uri in uris if uri.endswith("/debian")), next(iter(uris), ""))


def parse(name: str, text: str) -> list[AptSource]:
    """The sources in a file with this name."""
    return parse_deb822(text) if name.endswith(".sources") else parse_one_line(text)


def parse_one_line(text: str) -> list[AptSource]:
    """The ``deb`` lines of a ``*.list`` file (sources.list(5), one-line-style)."""
    entries = []
    for line in text.splitlines():
        words = re.sub(r"\[[^]]*\]", " ", line.split("#", 1)[0], count=1).split()
        if len(words) >= 3 and words[0] == "deb":
            entries.append(AptSource(words[1], words[2], tuple(words[3:])))
    return entries


def parse_deb822(text: str) -> list[AptSource]:
    """The enabled binary sources of a ``*.sources`` file (sources.list(5), deb822-style)."""
    return [
        AptSource(uri, suite, tuple(stanza.get("components", "").split()))
        for stanza in _stanzas(text)
        if stanza.get("enabled", "yes").strip().lower() not in ("no", "false", "0")
        and "deb" in stanza.get("types", "").split()
        for uri in stanza.get("uris", "").split()
        for suite in stanza.get("suites", "").split()
    ]


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    stanza: dict[str, str] = {}
    key = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if stanza:
                yield stanza
            stanza, key = {}, ""
        elif line[0].isspace() and key:
            stanza[key] += " " + line.strip()
        elif ":" in line:
            key, value = line.split(":", 1)
            key = key.strip().lower()
            stanza[key] = value.strip()
