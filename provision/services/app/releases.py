"""The releases that the controller keeps: taken from a folder, remembered in order, found again."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from provision.core import state
from provision.core.errors import LabError, UsageError
from provision.engine.context import Context
from provision.engine.resources.files import tree_files
from provision.services.app import role as app

HISTORY = "history.json"
NEEDED = ("gunicorn.conf.py", "foobar/__init__.py", "migrations/0001_notes.sql")
"""Without these a folder is no release of the guest book."""

LARGEST = 16 * 2**20
"""Bytes of a release; more is a folder that was not meant."""

_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._+-]{0,40}")


@dataclass(frozen=True)
class Release:
    """A release: its version, whether it is the recorded one, and which machines run it."""

    version: str
    current: bool
    machines: tuple[str, ...]


def current(context: Context) -> str:
    """The version that the lab should run."""
    return app.version_of(app.release_folder(context))


def source(context: Context, path: str, version: str) -> Path:
    """The folder that a deployment means.

    Args:
        context: the lab.
        path: as the user typed it, or empty: then a release of that version that is kept already,
            else the one that comes with the lab.
        version: as the user typed it, or empty.
    """
    if path:
        return Path(path).expanduser()
    kept = app.kept(context, _checked(version)) if version else app.SOURCE
    return kept if kept.is_dir() else app.SOURCE


def _checked(version: str) -> str:
    if not _VERSION.fullmatch(version):
        raise UsageError(f"{version!r} cannot be a version", "such as 1.2.0 or 1.2.0-rc1")
    return version


def take(context: Context, folder: Path, version: str = "") -> str:
    """Keep a copy of a release on the controller.

    Args:
        context: the lab.
        folder: like provision/app.
        version: what to call it instead of what its VERSION says; may be empty.

    Returns:
        Its version.

    Raises:
        UsageError: when it is no release, or another one of that version was taken before.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", "name a folder like provision/app")
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        what = ", ".join(missing)
        raise UsageError(
            f"{folder} is no release of the guest book: it has no {what}", "see provision/app"
        )
    if not version and not (folder / "VERSION").is_file():
        raise UsageError(
            f"{folder} does not say its version", "write it into a file VERSION, or --version 1.2.0"
        )
    wanted = _checked(version or app.version_of(folder))
    files = [each for each in tree_files(folder) if each[0] != "VERSION"]
    files.append(("VERSION", False, wanted.encode() + b"\n"))
    if sum(len(data) for _, _, data in files) > LARGEST:
        raise UsageError(f"{folder} holds more than {LARGEST >> 20} MiB", "name the release alone")
    target = app.kept(context, wanted)
    if target.is_dir():
        if sorted(tree_files(target)) != sorted(files):
            raise UsageError(
                f"another release is called {wanted} already",
                "give this one a new number, in its VERSION file or with --version",
            )
        return wanted
    half = target.with_name(f".{wanted}.new")
    shutil.rmtree(half, ignore_errors=True)
    for path, executable, data in files:
        place = half / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        place.chmod(0o755 if executable else 0o644)
    half.rename(target)
    return wanted


# --- the order in which they were deployed -------------------------------------------------------


def history(context: Context) -> list[str]:
    """Versions in the order in which they were deployed, the recorded one last."""
    path = _path(context)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = []
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise LabError(f"{path} is damaged", f"it only serves app.rollback: rm {path}")
    return line(found, current(context))


def line(past: list[str], now: str) -> list[str]:
    """A history that ends with the recorded version, whatever a killed command has left of it."""
    if now in past:
        return past[: len(past) - past[::-1].index(now)]
    return [*past, now]


def remember(context: Context, version: str) -> None:
    """Record the version that every server runs now; going back shortens the history.

    Args:
        context: the lab as it was before.
        version: the new one.
    """
    past = history(context)
    past = past[: past.index(version)] if version in past else past
    state.write(_path(context), json.dumps([*past, version]) + "\n")
    state.change(context.lab.directory, release=version)


def _path(context: Context) -> Path:
    return context.lab.directory / "releases" / HISTORY


def known(context: Context, version: str = "") -> str:
    """An earlier release that can be deployed again.

    Args:
        context: the lab.
        version: which one; empty for the one before the current one.

    Raises:
        UsageError: when there is none such.
    """
    past = history(context)
    if not version:
        if len(past) < 2:
            raise UsageError(
                f"no release was deployed before {past[-1]}", "see invoke app.releases"
            )
        return past[-2]
    if not app.kept(context, _checked(version)).is_dir():
        raise UsageError(f"no release {version!r} was deployed here", "see invoke app.releases")
    return version


def kept(context: Context) -> set[str]:
    """The versions of which the controller has a copy, and the current one."""
    folders = (context.lab.directory / "releases").glob("*/VERSION")
    names = {path.parent.name for path in folders}
    return {name for name in names if not name.startswith(".")} | {current(context)}
