"""Whether a folder holds the application that it is deployed as."""

from __future__ import annotations

from pathlib import Path

from provision.core.errors import UsageError
from provision.engine.agent.filesystem import shown
from provision.services.app import wheels
from provision.services.app.application import Application
from provision.services.app.collect import CollectedRelease
from provision.services.app.virtualenv import REQUIREMENTS

REQUIRED_FILES = ("gunicorn.conf.py", "foobar/__init__.py", "migrations/0001_notes.sql")
"""A folder without one of these is not a release of the guest book."""


def require_application(folder: Path, release: CollectedRelease, application: Application) -> None:
    """Refuse a folder without the files that its application needs.

    Raises:
        UsageError: naming what is missing.
    """
    paths = {path for path, _, _ in release.files} | {path for path, _ in release.links}
    name = shown(str(folder))
    if application.is_guest_book:
        missing = [required for required in REQUIRED_FILES if required not in paths]
        if missing:
            raise UsageError(
                f"{name} is not a release of the guest book: {', '.join(missing)} missing",
                "see provision/app; a WSGI application of your own needs --wsgi"
                f" {_guess(paths) or 'MODULE:NAME'}",
            )
    else:
        module = application.module.replace(".", "/")
        top = module.partition("/")[0]
        own = {f"{module}.py", f"{module}/__init__.py"} & paths or (folder / module).is_dir()
        if not own and (REQUIREMENTS not in paths or _has_module(top, paths)):
            guess = _guess(paths)
            raise UsageError(
                f"{name} has no module {application.module}, which --wsgi names",
                f"use --wsgi {guess}" if guess else f"add {module}.py, or correct --wsgi",
            )
        static = application.static
        if static and not any(path.startswith(f"{static}/") for path in paths):
            raise UsageError(
                f"{name} has no files in {static}/, which --static names",
                "correct --static, or leave it out",
            )
    if REQUIREMENTS in paths:
        wheels.require_packages(folder / REQUIREMENTS)


def _has_module(name: str, paths: set[str]) -> bool:
    return f"{name}.py" in paths or any(path.startswith(f"{name}/") for path in paths)


def _guess(paths: set[str]) -> str:
    """What --wsgi could be, from names that Django and Flask projects use; or empty."""
    for path in sorted(paths):
        if path.endswith("/wsgi.py") and path.count("/") == 1:
            return f"{path.removesuffix('.py').replace('/', '.')}:application"
    return next((f"{m}:app" for m in ("app", "wsgi", "main") if f"{m}.py" in paths), "")
