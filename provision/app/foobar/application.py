"""Puts the application together."""

from __future__ import annotations

import os

from flask import Flask, abort, request

from foobar import errors, origin, replies
from foobar.api import api
from foobar.context import EXTENSION, RELEASE_DIRECTORY, Context, read_version
from foobar.database import Database
from foobar.notes import iso
from foobar.pages import pages
from foobar.session import opener
from foobar.settings import Settings, from_environment
from foobar.status import status
from foobar.store import MySQLStore, Store
from foobar.text import BODY_LIMIT_BYTES


def create_app(settings: Settings | None = None, store: Store | None = None) -> Flask:
    """Return the WSGI application.

    Args:
        settings: from the environment when not given.
        store: the lab's MySQL servers when not given.

    Raises:
        SettingsError: the environment is not complete.
    """
    settings = settings or from_environment(os.environ)
    store = store or MySQLStore(Database(settings, opener(settings)), settings.host)
    # A root path without symbolic links: templates are read late, and must be this release's.
    app = Flask("foobar", root_path=str(RELEASE_DIRECTORY / "foobar"))
    app.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters["iso"] = iso
    version = read_version()
    app.extensions[EXTENSION] = Context(settings, store, version, RELEASE_DIRECTORY.name)
    app.jinja_env.globals.update(version=version, site=settings.site)
    for blueprint in (pages, api, status):
        app.register_blueprint(blueprint)
    replies.install(app)
    errors.install(app)

    @app.before_request
    def refuse_foreign_changes() -> None:
        changes = request.method not in origin.SAFE_METHODS
        if changes and origin.is_foreign(request.headers, request.host):
            abort(403)

    return app
