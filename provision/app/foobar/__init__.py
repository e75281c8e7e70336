"""The guest book of the lab: a Flask application that shows which machines served it.

The way of a request: HAProxy, Nginx, gunicorn, `create_app`, a view (pages, api, status),
`store`, `database`, `pool`, `session`, MySQL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask


def create_app() -> Flask:
    """Return the WSGI application with the settings of the environment; gunicorn calls this.

    Raises:
        SettingsError: the environment is not complete.
    """
    # Here, because `python3 -m foobar.migrate` has no use for Flask.
    from foobar.application import create_app as create

    return create()
