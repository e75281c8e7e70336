"""What every view needs: settings, store, version and release."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from flask import current_app

from foobar.settings import Settings
from foobar.store import Store

EXTENSION = "foobar"
# Resolved once: `current` may point at the next release while this process still runs.
RELEASE_DIRECTORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class AppContext:
    """Parts of the application; `release` is the name of its directory, `digest` of its files."""

    settings: Settings
    store: Store
    version: str
    release: str
    digest: str


def read_version(directory: Path = RELEASE_DIRECTORY) -> str:
    """Return the content of the release's VERSION file."""
    return (directory / "VERSION").read_text(encoding="utf-8").strip()


def context() -> AppContext:
    """Return the context of the application that serves the current request."""
    return cast(AppContext, current_app.extensions[EXTENSION])
