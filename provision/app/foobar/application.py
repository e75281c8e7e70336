"""Create the Flask application: blueprints, templates, error handlers."""

from __future__ import annotations

import os

from flask import Flask, abort, request

from foobar import errors, origin, replies
from foobar.api import api
from foobar.context import EXTENSION, RELEASE_DIRECTORY, AppContext, read_version
from foobar.database import Database
from foobar.digest import tree_digest
from foobar.notes import iso
from foobar.pages import pages
from foobar.session import opener
from foobar.settings import Settings, from_environment
from foobar.status import status
from foobar.store import Store
from foobar.text import BODY_LIMIT_BYTES


def create_app(settings: Settings | None = None, store: Store | None = None) -> Flask:
    """Return the WSGI application; by default with the settings and servers of the environment.

    Raises:
        SettingsError: a setting is missing or invalid.
    """
    settings = settings or from_environment(os.environ)
    store = store or Store(Database(settings, opener(settings)), settings.host)
    # Without symbolic links: templates are loaded later, and must come from this release.
    app = Flask("foobar", root_path=str(RELEASE_DIRECTORY / "foobar"))
    app.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters["iso"] = iso
    version = read_version()
    # At the start, when the code is loaded: files that change later do not change this process.
    digest = tree_digest(RELEASE_DIRECTORY)
    release = RELEASE_DIRECTORY.name
    app.extensions[EXTENSION] = AppContext(settings, store, version, release, digest)
    app.jinja_env.globals.update(version=version, site=settings.site)
    for blueprint in (pages, api, status):
        app.register_blueprint(blueprint)
    replies.install(app)
    errors.install(app)

    @app.before_request
    def refuse_cross_site_changes() -> None:
        changes = request.method not in origin.SAFE_METHODS
        if changes and origin.is_cross_site(request.headers, request.host):
            abort(403)

    return app
