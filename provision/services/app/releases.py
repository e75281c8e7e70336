"""The controller's copies of releases, and the history of their deployments."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from provision.core import state
from provision.core.atomic import write_atomically
from provision.core.errors import LabError, UsageError
from provision.core.files import cannot_write
from provision.core.growth import RELEASES_KEPT
from provision.core.suggestions import suggestion
from provision.engine.agent.filesystem import shown
from provision.engine.context import Context
from provision.engine.resources.files import TreeFile, tree_files, tree_links
from provision.services.app import role as app
from provision.services.app import wheels
from provision.services.app.application import (
    Application,
    Record,
    load_record,
    record_path,
    save_record,
)
from provision.services.app.collect import CollectedRelease, collect, summary
from provision.services.app.concurrency import CONFIG, concurrency
from provision.services.app.folder import require_application

HISTORY = "history.json"


@dataclass(frozen=True)
class Release:
    """A release: its version, whether it is the recorded one, and the machines that run it.

    Args:
        application: ``guest book``, or what gunicorn starts.
    """

    version: str
    current: bool
    machines: tuple[str, ...]
    application: str = "guest book"


@dataclass(frozen=True)
class StoredRelease:
    """A release that the controller has a copy of.

    Args:
        left_out: one line per reason, for the user.
        notes: what else the user should know, one line each.
    """

    version: str
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def current(context: Context) -> str:
    """The version of the recorded release."""
    return app.version_of(app.release_folder(context))


def application_of(context: Context, version: str) -> Application:
    """How a stored release runs."""
    record = load_record(context.lab.directory, version)
    return record.application if record else Application()


def source(context: Context, path: str, version: str) -> Path:
    """The folder to deploy: the given one, else a stored release, else the one in the checkout."""
    if path:
        return Path(path).expanduser()
    folder = app.stored_release(context, _valid(version)) if version else app.SOURCE
    return folder if folder.is_dir() else app.SOURCE


def bundled() -> Path:
    """The guest book in the checkout."""
    return app.SOURCE


def _valid(version: str) -> str:
    if not app.VERSION.fullmatch(version):
        raise UsageError(f"{shown(version)!r} is not a valid version", "such as 1.2.0 or 1.2.0-rc1")
    return version


def store(
    context: Context, folder: Path, version: str = "", application: Application | None = None
) -> StoredRelease:
    """Store a copy of a release on the controller.

    A copy of a release that was never deployed, such as a failed one, is replaced.

    Args:
        version: replaces the one in its VERSION file; may be empty.
        application: how it runs; None for the guest book.

    Raises:
        UsageError: when it is not a release, or another one was deployed under that version.
        LabError: when it cannot be read or stored; nothing is left behind.
    """
    application = application or Application()
    release = collect(folder)
    require_application(folder, release, application)
    application, notes = _with_concurrency(application, release)
    version = _valid(version or _version_in(folder))
    files = [file for file in release.files if file[0] != "VERSION"]
    files.append(("VERSION", False, version.encode() + b"\n"))
    release = replace(release, files=tuple(sorted(files)))
    stored = StoredRelease(version, summary(release.left_out), notes)
    deployed = is_taken(context, version)
    if deployed:
        taken = app.release_folder(replace(context, state=replace(context.state, release=version)))
        same = (tree_files(taken), tree_links(taken)) == (release.files, release.links)
        if not same or application_of(context, version) != application:
            raise UsageError(
                f"a different release is already stored as {version}",
                "give this one a new version, in its VERSION file or with --version",
            )
    if not deployed or not app.stored_release(context, version).is_dir():
        discard(context, version)
        save_record(context.lab.directory, version, Record(application, deployed))
        _write(release, app.stored_release(context, version))
    return stored


def _with_concurrency(
    application: Application, release: CollectedRelease
) -> tuple[Application, tuple[str, ...]]:
    """The application with its processes and threads, and notes about them."""
    if application.is_guest_book:
        return application, ()
    config = next((data for path, _, data in release.files if path == CONFIG), None)
    given = (application.workers, application.threads)
    result = concurrency(config, application.environment, *given)
    resolved = replace(
        application,
        workers=result.workers,
        threads=result.threads,
        event_loop=result.event_loop,
    )
    return resolved, result.notes


def is_taken(context: Context, version: str) -> bool:
    """Whether a version was deployed, or is recorded, so that its files must not change."""
    return version == current(context) or was_deployed(context, version)


def was_deployed(context: Context, version: str) -> bool:
    """Whether all servers ran a version once."""
    record = load_record(context.lab.directory, version)
    # Releases of earlier versions of the lab have no record.
    return record.deployed if record else app.stored_release(context, version).is_dir()


def discard(context: Context, version: str) -> None:
    """Remove the controller's copy of a release, with its wheels and its record."""
    shutil.rmtree(app.stored_release(context, version), ignore_errors=True)
    wheels.discard(context.lab.directory, version)
    record_path(context.lab.directory, version).unlink(missing_ok=True)


def _version_in(folder: Path) -> str:
    """The version of a release in a folder.

    Raises:
        UsageError: when it has no version.
    """
    if not os.path.lexists(folder / "VERSION"):
        raise UsageError(
            f"{shown(str(folder))} has no version",
            "write it into a file VERSION, or pass --version 1.2.0",
        )
    return app.version_of(folder)


def _write(release: CollectedRelease, target: Path) -> None:
    """Write a copy of a release; it is complete when its folder exists.

    Raises:
        LabError: when it cannot be written; nothing is left behind.
    """
    for old in target.parent.glob(".*.new"):  # of a command that was killed
        shutil.rmtree(old, ignore_errors=True)
    partial = target.with_name(f".{target.name}.new")
    try:
        for file in release.files:
            _write_file(partial, file)
        for path, link in release.links:
            (partial / path).parent.mkdir(parents=True, exist_ok=True)
            (partial / path).symlink_to(link)
        partial.rename(target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise cannot_write(target, error) from None
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_file(folder: Path, file: TreeFile) -> None:
    path, executable, data = file
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(data)
    (folder / path).chmod(0o755 if executable else 0o644)


def deployed_versions(context: Context) -> set[str]:
    """The versions that were deployed and that the controller has a copy of, and the current one.

    A release that failed, or whose deployment was killed, is none of them.
    """
    stored = stored_versions(context)
    return {name for name in stored if is_taken(context, name)} | {current(context)}


def stored_versions(context: Context) -> set[str]:
    """The versions that the controller has a copy of, also of a deployment that was killed."""
    folders = (context.lab.directory / "releases").glob("*/VERSION")
    return {path.parent.name for path in folders if not path.parent.name.startswith(".")}


def remove_undeployed(context: Context) -> None:
    """Remove the controller's copies of releases whose deployment was killed."""
    for version in stored_versions(context) - deployed_versions(context):
        discard(context, version)


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
    record = load_record(context.lab.directory, version) or Record()
    save_record(context.lab.directory, version, replace(record, deployed=True))
    state.change(context.lab.directory, release=version)


def prune(context: Context) -> None:
    """Remove the controller's copies of old releases; the last deployed ones remain.

    Args:
        context: with the release that was deployed last.
    """
    versions = history(context)
    newest = list(dict.fromkeys(reversed(versions)))
    # A rollback shortens the history; what was rolled back can be deployed again.
    others = deployed_versions(context) - set(newest)
    newest += sorted(others, key=lambda version: -_stored_at(context, version))
    kept = {*newest[:RELEASES_KEPT], current(context)}
    for version in stored_versions(context) - kept:
        discard(context, version)
    remaining = [version for version in versions if version in kept]
    write_atomically(_history_file(context), json.dumps(remaining) + "\n")


def _stored_at(context: Context, version: str) -> float:
    """When the controller's copy was made, in seconds since 1970; 0 without one."""
    folder = app.stored_release(context, version)
    return folder.stat().st_mtime if folder.is_dir() else 0.0


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
                f"no release was deployed before {versions[-1]}", "invoke app.releases lists them"
            )
        return versions[-2]
    if _valid(version) not in deployed_versions(context):
        similar = suggestion(version, deployed_versions(context))
        raise UsageError(
            f"no release {version!r} was deployed here{similar}", "invoke app.releases lists them"
        )
    return version
