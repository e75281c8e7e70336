"""What every view needs: the settings, the store and the release that runs."""

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
class Context:
    """The application's parts; `release` is the name of the directory it runs from."""

    settings: Settings
    store: Store
    version: str
    release: str


def read_version(directory: Path = RELEASE_DIRECTORY) -> str:
    """Return the content of the release's VERSION file.

    Args:
        directory: the release.
    """
    return (directory / "VERSION").read_text(encoding="utf-8").strip()


def context() -> Context:
    """Return the context of the application that serves the current request."""
    return cast(Context, current_app.extensions[EXTENSION])
