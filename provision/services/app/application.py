"""How a release runs: as the guest book, or as a WSGI application of the user's own.

The record of a release is ``.lab/<lab>/releases/.records/<version>.json``. It belongs to the user
only, since environment values may be secrets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from provision.core import capacity
from provision.core.atomic import write_atomically
from provision.core.errors import LabError, UsageError
from provision.core.files import read_text
from provision.core.suggestions import similar_path
from provision.engine.agent.codec import ProtocolError, decode, encode
from provision.engine.agent.filesystem import shown

WSGI = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*(\.\w+)*(\(\))?)?", re.ASCII)
"""What gunicorn starts: ``module``, ``module:name`` or ``module:factory()``."""

PATH = re.compile(r"/[\w./~%+-]*(\?[\w./~%+=&-]*)?", re.ASCII)
FOLDER = re.compile(r"[\w.+-]+(/[\w.+-]+)*", re.ASCII)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

DATABASE_VARIABLES = ("DATABASE_URL", "DATABASE_REPLICA_URL", "DATABASE_CA")
RESERVED = ("LISTEN_", "LAB_", "NOTIFY_SOCKET", "GUNICORN_CMD_ARGS")
"""Beginnings of names that systemd, gunicorn and the lab set themselves."""

HEALTH = "/healthz"
"""The guest book's health check; web servers pass it to any application as its own."""

GUEST_BOOK_STATIC = "foobar/static"
GUEST_BOOK_WSGI = "foobar:create_app()"


@dataclass(frozen=True)
class Application:
    """How a release runs.

    Args:
        wsgi: what gunicorn starts; empty for the guest book.
        health: the path that responds with status 200 when the application works.
        static: a folder of the release that Nginx serves as ``/static/``; empty for none.
        environment: variables of the process.
        database: whether it has a schema of its own, and ``DATABASE_URL``.
        workers: processes of gunicorn; ``threads``: requests that each serves at once.
        event_loop: its processes serve requests in an event loop instead of threads.
    """

    wsgi: str = ""
    health: str = HEALTH
    static: str = GUEST_BOOK_STATIC
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    database: bool = False
    workers: int = capacity.WORKERS
    threads: int = capacity.THREADS
    event_loop: bool = False

    @property
    def slots(self) -> int:
        """The requests that an application server serves at once."""
        return min(self.workers * self.threads, capacity.CONNECTIONS)

    @property
    def is_guest_book(self) -> bool:
        """Whether it is the lab's own application."""
        return not self.wsgi

    @property
    def page(self) -> str:
        """The path that stands for the whole site in checks."""
        return "/" if self.is_guest_book else self.health

    @property
    def module(self) -> str:
        """The module that gunicorn imports, such as ``project.wsgi``."""
        return (self.wsgi or GUEST_BOOK_WSGI).partition(":")[0]


@dataclass(frozen=True)
class Record:
    """What is known of a stored release besides its files.

    Args:
        deployed: whether all servers ran it once; only then its version is taken.
    """

    application: Application = Application()
    deployed: bool = False


def record_path(directory: Path, version: str) -> Path:
    """The file of a release's record.

    Args:
        directory: the lab's.
    """
    return directory / "releases" / ".records" / f"{version}.json"


def load_record(directory: Path, version: str) -> Record | None:
    """The record of a release; None for one without, such as one of an earlier version of the lab.

    Raises:
        LabError: when it is damaged.
    """
    path = record_path(directory, version)
    text = read_text(path)
    if text is None:
        return None
    try:
        return decode(Record, json.loads(text))
    except (ValueError, ProtocolError) as error:
        raise LabError(
            f"{path} is damaged: {error}", "deploy the release again under a new version"
        ) from None


def save_record(directory: Path, version: str, record: Record) -> None:
    """Write a release's record, readable by its owner only."""
    path = record_path(directory, version)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, json.dumps(encode(record), indent=2) + "\n")


def own_application(
    wsgi: str,
    health: str,
    static: str,
    environment: Mapping[str, str],
    *,
    database: bool,
    workers: int = 0,
    threads: int = 0,
) -> Application:
    """An application of the user's own.

    Args:
        workers: 0 for those of its gunicorn.conf.py, which `releases.store` reads; so ``threads``.

    Raises:
        UsageError: when a value is invalid.
    """
    if not WSGI.fullmatch(wsgi):
        raise UsageError(
            f"invalid --wsgi {shown(wsgi)!r}",
            "use MODULE:NAME, such as app:app, project.wsgi:application or app:create_app()",
        )
    if not PATH.fullmatch(health):
        raise UsageError(f"invalid --health {shown(health)!r}", "use a path, such as / or /health")
    static = static.strip("/")
    if static and (not FOLDER.fullmatch(static) or ".." in static.split("/")):
        raise UsageError(
            f"invalid --static {shown(static)!r}", "use a folder of the release, such as static"
        )
    for name, value in environment.items():
        _require_variable(name, value)
        if database and name in DATABASE_VARIABLES:
            raise UsageError(f"{name} is set by --database", f"leave out --env {name}=…")
    return Application(wsgi, health, static, dict(environment), database, workers, threads)


def _require_variable(name: str, value: str) -> None:
    if not VARIABLE.fullmatch(name):
        raise UsageError(
            f"invalid name of an environment variable: {shown(name)!r}",
            "use NAME=VALUE, with letters, digits and underscores in the name",
        )
    if name.startswith(RESERVED):
        raise UsageError(f"{name} is set by the lab or by systemd", "use another name")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"the value of {name} is not UTF-8", "encode it, as Base64") from None
    if any(ord(character) < 32 and character not in "\t\n" for character in value):
        raise UsageError(f"the value of {name} has control characters", "encode it, as Base64")


def parse_environment(assignments: tuple[str, ...], file: str = "") -> dict[str, str]:
    """Variables from ``NAME=VALUE`` words and from a file with one per line.

    The words win. In the file, blank lines, comments, ``export`` and quotes around a value are
    accepted.

    Raises:
        UsageError: when one has no value, or the file cannot be read.
    """
    variables: dict[str, str] = {}
    if file:
        path = Path(file).expanduser()
        text = read_text(path) if not path.is_dir() else None
        if text is None:
            what = f"{shown(file)} does not exist or is a folder"
            raise UsageError(what + shown(similar_path(path)), "name a file")
        lines = [line.strip() for line in text.removeprefix("\ufeff").splitlines()]
        for number, line in enumerate(lines, 1):
            if line and not line.startswith("#"):
                name, value = _assignment(line.removeprefix("export "), f"line {number} of {file}")
                quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
                variables[name] = value[1:-1] if quoted else value
    for word in assignments:
        name, value = _assignment(word, "--env")
        variables[name] = value
    return variables


def _assignment(text: str, where: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        # The text is not shown: it may be a secret.
        raise UsageError(f"{shown(where)}: not an assignment", "use NAME=VALUE")
    return name.strip(), value.strip() if where != "--env" else value
