"""The guest book of the lab: a Flask application that shows which machines served it.

A request passes HAProxy, Nginx, gunicorn, `create_app`, a view (pages, api, status), `store`,
`database`, `pool`, `session` and MySQL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask


def create_app() -> Flask:
    """Return the WSGI application, configured by the environment; gunicorn calls this.

    Raises:
        SettingsError: a setting is missing or invalid.
    """
    # Imported here because `python3 -m foobar.migrate` does not need Flask.
    from foobar.application import create_app as create

    return create()
