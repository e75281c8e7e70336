"""Where Debian packages come from: read from a host's apt files, written to machines.

The texts written here are the same whether a package set goes into an image or is configured
over SSH, so that the second finds nothing to change after the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

SID_LIST = "/etc/apt/sources.list.d/lab-sid.list"
SID_PREFERENCES = "/etc/apt/preferences.d/lab-sid"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

_RELEASES = re.compile(
    r"(oldoldstable|oldstable|stable|testing|unstable|sid|bookworm|trixie|forky|duke)"
)


@dataclass(frozen=True)
class Entry:
    """One binary package source: an archive's address, a suite, its components."""

    uri: str
    suite: str
    components: tuple[str, ...]


def sid_list(mirror: str) -> str:
    """The content of :data:`SID_LIST`.

    Args:
        mirror: address of Debian's main archive, as the machine's own release uses it.
    """
    return f"deb [signed-by={KEYRING}] {mirror.rstrip('/')} sid main\n"


def sid_preferences(names: Iterable[str]) -> str:
    """The content of :data:`SID_PREFERENCES`: only these names come from sid (apt_preferences(5)).

    Args:
        names: package names; their order does not matter.
    """
    return (
        "Package: *\nPin: release n=sid\nPin-Priority: 100\n\n"
        f"Package: {' '.join(sorted(set(names)))}\nPin: release n=sid\nPin-Priority: 990\n"
    )


def main_archive(sources: Mapping[str, str]) -> str:
    """The address of Debian's main archive among apt's source files; empty when none is there.

    A suite of Debian with component main is not enough, since third parties use the same
    words: an archive whose path ends in ``/debian`` goes first.

    Args:
        sources: file name to content; ``*.sources`` are deb822, all others one-line style.
    """
    found = [
        entry.uri.rstrip("/")
        for name, text in sorted(sources.items())
        for entry in (deb822(text) if name.endswith(".sources") else one_line(text))
        if "main" in entry.components
        and _RELEASES.fullmatch(entry.suite)
        and not entry.uri.startswith("cdrom:")
        and not urlsplit(entry.uri).path.rstrip("/").endswith("-security")
    ]
    return next((uri for uri in found if uri.endswith("/debian")), next(iter(found), ""))


def one_line(text: str) -> list[Entry]:
    """The ``deb`` lines of a ``*.list`` file (sources.list(5), one-line-style)."""
    entries = []
    for line in text.splitlines():
        words = re.sub(r"\[[^]]*\]", " ", line.split("#", 1)[0], count=1).split()
        if len(words) >= 3 and words[0] == "deb":
            entries.append(Entry(words[1], words[2], tuple(words[3:])))
    return entries


def deb822(text: str) -> list[Entry]:
    """The enabled binary sources of a ``*.sources`` file (sources.list(5), deb822-style)."""
    return [
        Entry(uri, suite, tuple(stanza.get("components", "").split()))
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
