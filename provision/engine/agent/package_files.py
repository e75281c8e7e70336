"""Whether the files of installed packages are there, and their configuration files unchanged."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Sequence

from provision.engine.agent.filesystem import kind_of, read_bytes, shown, status_of
from provision.engine.agent.process import AgentError, run

INFO = "/var/lib/dpkg/info"
STRIPPED = (
    "/usr/share/doc",
    "/usr/share/man",
    "/usr/share/info",
    "/usr/share/locale",
    "/usr/share/lintian",
    "/usr/share/bug",
    "/usr/share/groff",
    "/usr/share/linda",
    "/usr/include",
    "/usr/lib/python3",
    "/usr/share/mysql",
    "/var/",
    "/run/",
)
"""Images leave these out, or programs change them."""

IN_THE_WAY = ("fifo", "socket", "device")
"""No package of the lab has these."""

LISTED_FILES = 3
"""So many paths per package are reported."""


def damage(
    names: Sequence[str], configured: Iterable[str], *, conffiles: bool = True
) -> dict[str, dict[str, tuple[str, ...]]]:
    """By package: itself and its parts that are damaged, with what is wrong with some files.

    Parts are direct dependencies of the same name up to the first hyphen: nginx and nginx-common.

    Args:
        conffiles: whether changed configuration files count.
    """
    if not names:
        return {}
    form = "${Package}\\t${Depends}\\n"
    parts: dict[str, list[str]] = {}
    for line in run(["dpkg-query", "-W", "-f", form, *names]).stdout.splitlines():
        name, _, depends = line.partition("\t")
        relations = re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]*)", depends)
        parts[name] = [name, *(other for other in relations if _is_part(name, other))]
    skipped = frozenset(configured)
    all_parts = sorted({part for group in parts.values() for part in group})
    digests = conffile_digests(all_parts) if conffiles else {}
    checked: dict[str, tuple[str, ...]] = {}
    damaged: dict[str, dict[str, tuple[str, ...]]] = {}
    for name, group in parts.items():
        for part in group:
            if part not in checked:
                checked[part] = problems(part, digests.get(part, {}), skipped)
            if checked[part]:
                damaged.setdefault(name, {})[part] = checked[part]
    return damaged


def _is_part(name: str, other: str) -> bool:
    stem = name.partition("-")[0]
    return other.partition("-")[0] == stem and stem not in ("python3", "gcc") and stem[:3] != "lib"


def conffile_digests(packages: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """MD5 by path of the configuration files of packages, or of all, as dpkg installed them."""
    result: dict[str, dict[str, str]] = {}
    package = ""
    form = "=${Package}\\n${Conffiles}\\n"
    for line in run(["dpkg-query", "-W", "-f", form, *packages]).stdout.splitlines():
        words = line.split()
        if line.startswith("="):
            package = line[1:]
        elif len(words) == 2:  # without "obsolete" or "remove-on-upgrade"
            result.setdefault(package, {})[words[0]] = words[1]
    return result


def problems(
    package: str, conffiles: dict[str, str], configured: frozenset[str]
) -> tuple[str, ...]:
    """What is wrong with the files of one package; empty when it is complete."""
    wrong = []
    for path in _listed(package):
        if path in configured or path.startswith(STRIPPED):
            continue
        status = status_of(path)
        kind = kind_of(status) if status else "absent"
        if kind == "absent":
            wrong.append(f"{path} is missing")
        elif kind in IN_THE_WAY:
            wrong.append(f"{shown(path)} is a {kind}")
        elif path in conffiles and md5(path) != conffiles[path]:
            wrong.append(f"{path} was changed")
    return tuple(wrong[:LISTED_FILES])


def obstructions(packages: Iterable[str]) -> list[str]:
    """What dpkg cannot replace: no files where packages have files."""
    conffiles = conffile_digests(sorted(packages))
    paths = []
    for package, own in conffiles.items():
        for path in _listed(package):
            status = status_of(path)
            kind = kind_of(status) if status else "absent"
            dangling = kind == "link" and not os.path.exists(path)
            if kind in IN_THE_WAY or (path in own and (kind == "directory" or dangling)):
                paths.append(path)
    return paths


def changed_conffiles(packages: Iterable[str], configured: Iterable[str]) -> list[str]:
    """Configuration files that differ from their package's, without those the lab configures."""
    skipped = frozenset(configured)
    return [
        path
        for own in conffile_digests(sorted(packages)).values()
        for path, digest in own.items()
        if path not in skipped and not path.startswith(STRIPPED)
        if os.path.isfile(path) and md5(path) != digest
    ]


def _listed(package: str) -> list[str]:
    for name in (package, f"{package}:amd64", f"{package}:arm64"):
        with contextlib.suppress(OSError, AgentError):
            lines = read_bytes(f"{INFO}/{name}.list").decode(errors="surrogateescape").splitlines()
            return [line for line in lines if line not in ("", "/.")]
    return []


def md5(path: str) -> str:
    """MD5 of a file; empty when it is not readable."""
    try:
        return hashlib.md5(read_bytes(path), usedforsecurity=False).hexdigest()
    except (OSError, AgentError):
        return ""
