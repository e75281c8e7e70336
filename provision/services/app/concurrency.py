"""How many requests an application of the user's own serves at once: its processes and threads.

The balancer sends each server as many requests as that, and queues further ones
(``core/capacity.py``). Numbers come from the options of ``app.deploy``, else from the release's
gunicorn.conf.py, else from gunicorn's defaults. A number that gunicorn.conf.py computes is only
known on the machine, so that the lab sets its own instead.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

from provision.core import capacity
from provision.core.errors import UsageError

CONFIG = "gunicorn.conf.py"
TASKS = 128
"""TasksMax= of the service: threads of all processes together (configs/app/foobar.service.j2)."""

OTHER_THREADS = 4
"""Of each process: the main one, and those of the health listener."""

MOST_WORKERS = 16
"""A server of the lab has one or two processors, and the service 400 MB of memory."""

THREADED = ("", "sync", "gthread")
WORKER_CONNECTIONS = 1000
"""gunicorn's default of ``worker_connections``, for workers that are event loops."""


@dataclass(frozen=True)
class Concurrency:
    """Processes of gunicorn, and the requests that each serves at once.

    Args:
        event_loop: a process serves its requests in an event loop (gevent …), not in threads.
        notes: what the user should know; one line each.
    """

    workers: int = capacity.WORKERS
    threads: int = capacity.THREADS
    event_loop: bool = False
    notes: tuple[str, ...] = ()


def concurrency(
    config: bytes | None, environment: Mapping[str, str], workers: int = 0, threads: int = 0
) -> Concurrency:
    """The numbers for a release.

    Args:
        config: the content of its gunicorn.conf.py; None without one.
        environment: of the process; gunicorn reads WEB_CONCURRENCY.
        workers: of ``app.deploy``; 0 for none. ``threads`` likewise.

    Raises:
        UsageError: when they are out of range.
    """
    for name, number in (("workers", workers), ("threads", threads)):
        if number < 0:
            raise UsageError(f"invalid --{name} {number}", "use a number from 1")
    settings = read_settings(config) if config is not None else LABS_OWN
    per_process = settings.threads or 1
    event_loop = settings.worker_class not in THREADED
    if event_loop:
        per_process = settings.worker_connections or WORKER_CONNECTIONS
    from_environment = _number(environment.get("WEB_CONCURRENCY", ""))
    processes = settings.workers or from_environment or 1
    if config is None:
        processes = from_environment or settings.workers
    given = {"workers": workers, "threads": threads}
    result = Concurrency(
        workers or processes,
        threads or per_process,
        event_loop,
        tuple(
            f"{CONFIG} computes {name}: the lab sets {getattr(settings, name)}"
            f" (--{name} N sets another number)"
            for name in settings.computed
            if not given.get(name)
        ),
    )
    _require_range(result)
    return result


@dataclass(frozen=True)
class Settings:
    """What gunicorn.conf.py sets; 0 or empty for nothing.

    Args:
        workers: the lab's number when it is computed; ``threads`` likewise.
        computed: names of settings that are no literal numbers.
    """

    workers: int = 0
    threads: int = 0
    worker_connections: int = 0
    worker_class: str = ""
    computed: tuple[str, ...] = ()


LABS_OWN = Settings(capacity.WORKERS, capacity.THREADS, worker_class="gthread")
"""For a release without a gunicorn.conf.py."""


def read_settings(config: bytes) -> Settings:
    """The settings in the text of a gunicorn.conf.py, which is not executed here."""
    try:
        tree = ast.parse(config)
    except (SyntaxError, ValueError):
        return Settings()  # gunicorn says so when it starts
    values: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        literal = _literal(value) if node in tree.body else None  # depends on something
        values.update({target.id: literal for target in targets if isinstance(target, ast.Name)})
    numbers, computed = {}, []
    for name, default in (
        ("workers", capacity.WORKERS),
        ("threads", capacity.THREADS),
        ("worker_connections", WORKER_CONNECTIONS),
    ):
        number = values.get(name, 0)
        known = isinstance(number, int) and (number > 0 or name not in values)
        numbers[name] = number if isinstance(number, int) and known else default
        if not known and name != "worker_connections":
            computed.append(name)
    kind = values.get("worker_class", "")
    # A class that is not known here may be an event loop.
    worker_class = kind if isinstance(kind, str) else "unknown"
    return Settings(**numbers, worker_class=worker_class, computed=tuple(computed))


def _literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _require_range(value: Concurrency) -> None:
    if value.workers > MOST_WORKERS:
        raise UsageError(
            f"{value.workers} workers are too many for a server of the lab",
            f"--workers N, with 1 to {MOST_WORKERS}",
        )
    if not value.event_loop and value.workers * (value.threads + OTHER_THREADS) >= TASKS:
        raise UsageError(
            f"{value.workers} workers with {value.threads} threads each are too many for a server"
            " of the lab",
            f"--threads N, with 1 to {(TASKS - 1) // value.workers - OTHER_THREADS}",
        )
