"""Read a release from a user's folder: which files, which links, and what is left out and why."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from provision.core.errors import UsageError
from provision.core.files import cannot_read
from provision.core.suggestions import similar_path
from provision.engine.agent.filesystem import kind_of, shown
from provision.engine.resources.files import TreeFile, TreeLink

SIZE_LIMIT = 16 * 2**20
"""Bytes of a release; a larger folder is probably a mistake."""

ENTRIES_LIMIT = 10_000
"""Files of a release; half of what a machine reads of a directory tree."""

SHOWN = 4
"""Names that a message lists for one reason."""

COMPILED = "compiled Python"
CACHE = "a tool's cache"
SECRETS = "may hold secrets: pass values with --env or --env-file"
VERSION_CONTROL = "version control"
DESKTOP = "made by a file manager"

NAMES = {
    "__pycache__": COMPILED,
    ".git": VERSION_CONTROL,
    ".hg": VERSION_CONTROL,
    ".svn": VERSION_CONTROL,
    ".lab": "state and secrets of labs",
    ".mypy_cache": CACHE,
    ".pytest_cache": CACHE,
    ".ruff_cache": CACHE,
    ".tox": CACHE,
    ".nox": CACHE,
    ".env": SECRETS,
    ".DS_Store": DESKTOP,
    "Thumbs.db": DESKTOP,
}
"""Why a path is left out, by the name of the file or of any folder above it."""

SUFFIXES = {".pyc": COMPILED, ".pyo": COMPILED}
"""Why a file is left out, by the end of its name."""

ENV_EXAMPLES = (".env.example", ".env.sample", ".env.template")

VIRTUAL_ENVIRONMENT = "a virtual environment: requirements.txt is installed on the machines"
EMPTY = "an empty folder"


@dataclass(frozen=True)
class LeftOut:
    """One path that a release does not get, and why; a folder's path ends with a slash."""

    path: str
    reason: str


@dataclass(frozen=True)
class CollectedRelease:
    """The contents of a folder."""

    files: tuple[TreeFile, ...]
    links: tuple[TreeLink, ...]
    left_out: tuple[LeftOut, ...]


def summary(left_out: Sequence[LeftOut]) -> tuple[str, ...]:
    """One line per reason, such as ``.git/ (version control)``."""
    by_reason: dict[str, list[str]] = {}
    for item in left_out:
        by_reason.setdefault(item.reason, []).append(shown(item.path))
    return tuple(f"{_listed(paths)} ({reason})" for reason, paths in by_reason.items())


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more


def collect(folder: Path) -> CollectedRelease:
    """Read everything in a folder that belongs to a release.

    Patterns match whole names. Symbolic links stay links; devices, sockets and fifos are left out.

    Raises:
        UsageError: when it is not a folder, is too large, or a link leaves it.
        LabError: when something in it cannot be read.
    """
    if not folder.exists():
        what = f"{shown(str(folder))} does not exist{shown(similar_path(folder))}"
        raise UsageError(what, "name a folder with a release")
    if not folder.is_dir():
        raise UsageError(f"{shown(str(folder))} is not a folder", "name a folder with a release")
    left_out: list[LeftOut] = []
    paths: dict[str, os.stat_result] = {}
    try:
        for path, status in _walk(folder, left_out):
            paths[path] = status
            _require_sizes(folder, paths)
    except OSError as error:
        raise cannot_read(Path(error.filename or folder), error) from None
    inside = [path for path, status in paths.items() if stat.S_ISLNK(status.st_mode)]
    links = _links(folder, inside, paths, left_out)
    regular = {path: status for path, status in paths.items() if path not in inside}
    files = [(path, bool(s.st_mode & 0o100), _read(folder / path)) for path, s in regular.items()]
    return CollectedRelease(tuple(sorted(files)), links, tuple(left_out))


def _walk(folder: Path, left_out: list[LeftOut]) -> Iterator[tuple[str, os.stat_result]]:
    """Relative path and status of every file and link; what is left out is added to a list."""

    def fail(error: OSError) -> None:
        raise error

    for top, folders, names in os.walk(folder, onerror=fail):
        here = Path(top)
        prefix = "" if here == folder else f"{here.relative_to(folder)}/"
        if prefix and not folders and not names:
            left_out.append(LeftOut(prefix, EMPTY))
        for name in sorted(folders):
            reason = _folder_reason(here / name)
            if reason:
                left_out.append(LeftOut(f"{prefix}{name}/", reason))
            elif (here / name).is_symlink():
                yield f"{prefix}{name}", (here / name).lstat()
            else:
                continue
            folders.remove(name)
        folders.sort()
        for name in sorted(names):
            status = (here / name).lstat()
            reason = _file_reason(name, status)
            if reason:
                left_out.append(LeftOut(f"{prefix}{name}", reason))
            else:
                yield f"{prefix}{name}", status


def _folder_reason(path: Path) -> str:
    """Why a folder is left out with everything in it; empty when it is not."""
    reason = NAMES.get(path.name, "")
    return reason or (VIRTUAL_ENVIRONMENT if (path / "pyvenv.cfg").is_file() else "")


def _file_reason(name: str, status: os.stat_result) -> str:
    """Why a file is left out; empty when it is not."""
    if name in NAMES:
        return NAMES[name]
    if name.startswith(".env.") and name not in ENV_EXAMPLES:
        return SECRETS
    kind = kind_of(status)
    if kind not in ("file", "link"):
        return f"a {kind}"
    return SUFFIXES.get(Path(name).suffix, "")


def _require_sizes(folder: Path, paths: dict[str, os.stat_result]) -> None:
    """Refuse a folder before it is read, when it has too many files or bytes."""
    hint = "name a folder with a release only"
    if len(paths) > ENTRIES_LIMIT:
        raise UsageError(f"{shown(str(folder))} has more than {ENTRIES_LIMIT} files", hint)
    if sum(status.st_size for status in paths.values()) <= SIZE_LIMIT:
        return
    largest = max(paths, key=lambda path: paths[path].st_size)
    size = paths[largest].st_size / 2**20
    raise UsageError(
        f"{shown(str(folder))} is larger than {SIZE_LIMIT >> 20} MiB;"
        f" its largest file so far is {shown(largest)} ({size:.1f} MiB)",
        hint,
    )


def _links(
    folder: Path,
    names: Sequence[str],
    paths: Mapping[str, os.stat_result],
    left_out: list[LeftOut],
) -> tuple[TreeLink, ...]:
    """The links of a release; those to nothing are left out.

    Raises:
        UsageError: when one leaves the release.
    """
    links: list[TreeLink] = []
    outside: list[str] = []
    for name in sorted(names):
        # The target's path without links, relative to the release.
        real = os.path.relpath(os.path.realpath(folder / name), folder.resolve())
        if not _is_inside(real):
            outside.append(f"{shown(name)} -> {shown(str((folder / name).readlink()))}")
        elif real != name and (real in paths or any(p.startswith(f"{real}/") for p in paths)):
            links.append((name, _target(folder, name, real)))
        else:
            left_out.append(LeftOut(name, "a link to nothing in the release"))
    if outside:
        raise UsageError(
            f"{shown(str(folder))} has links that leave it: {_listed(outside)}",
            "copy what they name into the folder, or remove them",
        )
    return tuple(links)


def _target(folder: Path, name: str, real: str) -> str:
    """A link's text, if that never leaves the release; else a relative path to the same file."""
    text, parent = str((folder / name).readlink()), str(Path(name).parent)
    if not Path(text).is_absolute() and _is_inside(os.path.normpath(f"{parent}/{text}")):
        return text
    return os.path.relpath(real, parent)


def _is_inside(relative: str) -> bool:
    return relative not in ("..", ".") and not relative.startswith("../")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise cannot_read(path, error) from None
