"""The controller's copies of releases, and the history of their deployments."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from provision.core import state
from provision.core.atomic import write_atomically
from provision.core.errors import LabError, UsageError
from provision.core.growth import RELEASES_KEPT
from provision.engine.context import Context
from provision.engine.resources.files import tree_files
from provision.services.app import role as app

HISTORY = "history.json"
REQUIRED_FILES = ("gunicorn.conf.py", "foobar/__init__.py", "migrations/0001_notes.sql")
"""A folder without one of these is not a release of the guest book."""

SIZE_LIMIT = 16 * 2**20
"""Bytes of a release; a larger folder is probably a mistake."""


@dataclass(frozen=True)
class Release:
    """A release: its version, whether it is the recorded one, and the machines that run it."""

    version: str
    current: bool
    machines: tuple[str, ...]


def current(context: Context) -> str:
    """The version of the recorded release."""
    return app.version_of(app.release_folder(context))


def source(context: Context, path: str, version: str) -> Path:
    """The folder to deploy: the given one, else a stored release, else the one in the checkout."""
    if path:
        return Path(path).expanduser()
    folder = app.stored_release(context, _valid(version)) if version else app.SOURCE
    return folder if folder.is_dir() else app.SOURCE


def _valid(version: str) -> str:
    if not app.VERSION.fullmatch(version):
        raise UsageError(f"{version!r} is not a valid version", "such as 1.2.0 or 1.2.0-rc1")
    return version


def store(context: Context, folder: Path, version: str = "") -> str:
    """Store a copy of a release on the controller, and return its version.

    Args:
        version: replaces the one in its VERSION file; may be empty.

    Raises:
        UsageError: when it is not a release, or different files are stored under that version.
    """
    version = _valid(version or _version_in(folder))
    files = [file for file in tree_files(folder) if file[0] != "VERSION"]
    files.append(("VERSION", False, version.encode() + b"\n"))
    if sum(len(data) for _, _, data in files) > SIZE_LIMIT:
        raise UsageError(
            f"{folder} is larger than {SIZE_LIMIT >> 20} MiB", "name a folder with a release only"
        )
    target = app.stored_release(context, version)
    if not target.is_dir():
        _write(files, target)
    elif sorted(tree_files(target)) != sorted(files):
        raise UsageError(
            f"a different release is already stored as {version}",
            "give this one a new version, in its VERSION file or with --version",
        )
    return version


def _version_in(folder: Path) -> str:
    """The version of a release in a folder.

    Raises:
        UsageError: when the folder is not a release, or has no version.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", "name a folder like provision/app")
    missing = [name for name in REQUIRED_FILES if not (folder / name).is_file()]
    if missing:
        raise UsageError(
            f"{folder} is not a release of the guest book: {', '.join(missing)} missing",
            "see provision/app",
        )
    if not (folder / "VERSION").is_file():
        raise UsageError(
            f"{folder} has no version", "write it into a file VERSION, or pass --version 1.2.0"
        )
    return app.version_of(folder)


def _write(files: list[tuple[str, bool, bytes]], target: Path) -> None:
    partial = target.with_name(f".{target.name}.new")
    shutil.rmtree(partial, ignore_errors=True)
    for path, executable, data in files:
        file = partial / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(0o755 if executable else 0o644)
    partial.rename(target)


def stored_versions(context: Context) -> set[str]:
    """The versions that the controller has a copy of, and the current one."""
    folders = (context.lab.directory / "releases").glob("*/VERSION")
    names = {path.parent.name for path in folders}
    return {name for name in names if not name.startswith(".")} | {current(context)}


# --- history -------------------------------------------------------------------------------------


def history(context: Context) -> list[str]:
    """Versions in the order of their deployments; the last one is the recorded one.

    Raises:
        LabError: when the file is damaged.
    """
    path = _history_file(context)
    try:
        versions = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        versions = []
    except ValueError:
        versions = None
    if not isinstance(versions, list) or not all(isinstance(v, str) for v in versions):
        raise LabError(f"{path} is damaged", f"only app.rollback needs it: rm {path}")
    return ending_with(versions, current(context))


def ending_with(versions: list[str], version: str) -> list[str]:
    """A history up to the recorded version, which an interrupted command may not have added."""
    if version in versions:
        return versions[: len(versions) - versions[::-1].index(version)]
    return [*versions, version]


def record_deployment(context: Context, version: str) -> None:
    """Record the version that every server runs; a rollback shortens the history."""
    versions = history(context)
    versions = versions[: versions.index(version)] if version in versions else versions
    write_atomically(_history_file(context), json.dumps([*versions, version]) + "\n")
    state.change(context.lab.directory, release=version)


def prune(context: Context) -> None:
    """Remove the controller's copies of old releases; the last deployed ones remain.

    Args:
        context: with the release that was deployed last.
    """
    versions = history(context)
    kept = {*list(dict.fromkeys(reversed(versions)))[:RELEASES_KEPT], current(context)}
    for version in stored_versions(context) - kept:
        shutil.rmtree(app.stored_release(context, version), ignore_errors=True)
    remaining = [version for version in versions if version in kept]
    write_atomically(_history_file(context), json.dumps(remaining) + "\n")


def _history_file(context: Context) -> Path:
    return context.lab.directory / "releases" / HISTORY


def rollback_version(context: Context, version: str = "") -> str:
    """The release to roll back to: the given one, or the one before the current one.

    Raises:
        UsageError: when there is none.
    """
    versions = history(context)
    if not version:
        if len(versions) < 2:
            raise UsageError(
                f"no release was deployed before {versions[-1]}", "see invoke app.releases"
            )
        return versions[-2]
    if not app.stored_release(context, _valid(version)).is_dir():
        raise UsageError(f"no release {version!r} was deployed here", "see invoke app.releases")
    return version
