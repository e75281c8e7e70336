"""Applications of a user's own: one with Flask and a database, one with Django."""

from __future__ import annotations

from pathlib import Path

FLASK = '''\
"""A counter that all servers share."""

import os
from urllib.parse import parse_qs, unquote, urlsplit

import pymysql
import requests
from flask import Flask

app = Flask(__name__)


def connect(variable):
    url = urlsplit(os.environ[variable])
    return pymysql.connect(
        host=url.hostname,
        port=url.port,
        user=url.username,
        password=unquote(url.password),
        database=url.path[1:],
        ssl_ca=parse_qs(url.query)["ssl_ca"][0],
        autocommit=True,
    )


def query(variable, *statements):
    with connect(variable) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchone()[0]


@app.get("/health")
def health():
    return "ok"


@app.get("/")
def visit():
    table = "CREATE TABLE IF NOT EXISTS visits (id INT AUTO_INCREMENT PRIMARY KEY)"
    count = query(
        "DATABASE_URL", table, "INSERT INTO visits VALUES ()", "SELECT COUNT(*) FROM visits"
    )
    return {
        "visits": count,
        "host": os.environ["LAB_HOST"],
        "release": os.environ["LAB_RELEASE"],
        "greeting": os.environ["GREETING"],
        "requests": requests.__file__,
    }


@app.get("/replica")
def replica():
    host = query("DATABASE_REPLICA_URL", "SELECT @@hostname")
    return {"database": host, "host": os.environ["LAB_HOST"]}
'''

DJANGO = '''\
"""A site in one module."""

import os

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ["SECRET_KEY"],
)


def page(request):
    return JsonResponse({"django": django.get_version(), "host": os.environ["LAB_HOST"]})


urlpatterns = [path("", page)]
application = get_wsgi_application()
'''


def write(folder: Path, **files: str) -> Path:
    """Write files; ``__`` in a name stands for a slash, and a final ``_py`` for ``.py``."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def flask(folder: Path) -> Path:
    """The application with Flask; requests is not among Debian's packages on machines."""
    return write(
        folder,
        app_py=FLASK,
        requirements_txt="requests\n",
        assets__style_css="body { margin: 0 }\n",
    )


def site(folder: Path) -> Path:
    """The site with Django."""
    return write(folder, mysite__wsgi_py=DJANGO, requirements_txt="Django>=5\n")
