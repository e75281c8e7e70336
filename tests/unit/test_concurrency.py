"""Processes and threads of an application of the user's own, and the limits that follow."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provision.core import capacity
from provision.core.errors import UsageError
from provision.core.lab import ROOT
from provision.services.app import process, releases
from provision.services.app.application import own_application
from provision.services.app.concurrency import TASKS, concurrency
from provision.services.app.interface import application
from tests.unit.test_application import deployed, file, haproxy

HELLO = "def app(environ, start_response): ...\n"
COMPUTED = "import multiprocessing\nworkers = multiprocessing.cpu_count() * 2 + 1\n"


@pytest.mark.parametrize(
    ("config", "environment", "options", "expected"),
    [
        (None, {}, {}, (2, 4, False)),
        (None, {"WEB_CONCURRENCY": "3"}, {}, (3, 4, False)),
        (None, {"WEB_CONCURRENCY": "3"}, {"workers": 1, "threads": 6}, (1, 6, False)),
        # gunicorn's own defaults: one process, which serves one request at a time
        ("", {}, {}, (1, 1, False)),
        ("", {"WEB_CONCURRENCY": "3"}, {}, (3, 1, False)),
        ("workers = 4\nthreads: int = 2\n", {"WEB_CONCURRENCY": "3"}, {}, (4, 2, False)),
        ("workers = threads = 2", {}, {"threads": 5}, (2, 5, False)),
        ("worker_class = 'sync'", {}, {}, (1, 1, False)),
        ("worker_class = 'gevent'", {}, {}, (1, 1000, True)),
        ("worker_class = 'gevent'\nworker_connections = 50", {}, {"workers": 2}, (2, 50, True)),
        ("worker_class = choose()", {}, {}, (1, 1000, True)),
        (COMPUTED, {}, {}, (2, 1, False)),
        ("if True:\n    threads = 9\n", {}, {}, (1, 4, False)),
        ("workers = -1", {}, {}, (2, 1, False)),
        ("workers = (", {}, {}, (1, 1, False)),  # gunicorn says so
        ("workers = 4\nworkers = 5\n", {}, {}, (5, 1, False)),
    ],
)
def test_where_the_numbers_come_from(
    config: str | None,
    environment: dict[str, str],
    options: dict[str, int],
    expected: tuple[int, int, bool],
) -> None:
    text = None if config is None else config.encode()
    result = concurrency(text, environment, **options)
    assert (result.workers, result.threads, result.event_loop) == expected


def test_numbers_that_only_the_machine_knows_are_reported() -> None:
    (note,) = concurrency(COMPUTED.encode(), {}).notes
    expected = "gunicorn.conf.py computes workers: the lab sets 2 (--workers N sets another number)"
    assert note == expected
    assert concurrency(COMPUTED.encode(), {}, workers=3).notes == ()


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"workers": 40}, "40 workers are too many", "--workers N, with 1 to 16"),
        ({"workers": 4, "threads": 60}, "with 60 threads each", "--threads N, with 1 to 27"),
        ({"threads": -1}, "invalid --threads -1", "from 1"),
    ],
)
def test_too_many_are_refused(options: dict[str, int], message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        concurrency(None, {}, **options)
    assert hint in caught.value.hint


def test_the_service_has_room_for_them() -> None:
    unit = (ROOT / "configs" / "app" / "foobar.service.j2").read_text(encoding="utf-8")
    assert re.findall(r"^TasksMax=(\d+)$", unit, re.MULTILINE) == [str(TASKS)]


def own(**options: int) -> Any:
    return own_application("app:app", "/ok?full=1", "", {}, database=False, **options)


def test_balancer_and_nginx_send_as_many_requests_as_it_serves(tmp_path: Path) -> None:
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "app.py").write_text(HELLO)
    here = deployed(tmp_path, folder, own(workers=3, threads=5))
    assert application(here).slots == 15
    text = haproxy(here)
    web = text.partition("\nbackend web\n")[2].partition("\nbackend ")[0]
    assert re.findall(r"server web-\d+ .* maxconn (\d+)", web) == ["15", "15"]
    bound = 15 * capacity.QUEUE_PER_SLOT
    assert f"avg_queue(web) ge {bound} " in text
    site = file(here, "web-01", "nginx", "/etc/nginx/sites-available/www")
    assert set(re.findall(r"limit_conn application (\d+);", site)) == {str(15 + bound)}
    service = file(here, "web-01", "app", "/etc/systemd/system/foobar.service")
    assert f"-c {process.CODE}/gunicorn.conf.py --workers 3 --threads 5 app:app" in service


def test_an_event_loop_has_no_health_listener(tmp_path: Path) -> None:
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "app.py").write_text(HELLO)
    (folder / "gunicorn.conf.py").write_text("worker_class = 'gevent'\n")
    here = deployed(tmp_path, folder, own())
    service = file(here, "web-01", "app", "/etc/systemd/system/foobar.service")
    assert "-c gunicorn.conf.py --workers 1 --worker-connections 1000 app:app" in service
    site = file(here, "web-01", "nginx", "/etc/nginx/sites-available/www")
    assert "rewrite ^ /ok?full=1 last;" in site
    assert "$health;" not in site


def test_a_stored_release_keeps_its_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "app.py").write_text(HELLO)
    here = deployed(tmp_path, folder, own(threads=5))
    again = releases.application_of(here, "7")
    releases.store(here, releases.source(here, "", "7"), "7", again)
    assert releases.application_of(here, "7") == again
    assert (again.workers, again.threads) == (2, 5)


# --- the configuration of gunicorn on machines ---------------------------------------------------


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The lab's configuration beside health.py, for a release that has one of its own."""
    (tree,) = process.configuration(own())
    for name, _, content in tree.files:
        (tmp_path / name).write_bytes(content)
    release = tmp_path / "release"
    release.mkdir()
    (release / "gunicorn.conf.py").write_text(
        "loglevel = 'warning'\n"
        "calls = []\n"
        "def pre_request(worker, req):\n    calls.append(req.path)\n"
        "def post_request(worker, req):\n    calls.append('done')\n"
    )
    monkeypatch.chdir(release)
    values = {"READ_SECONDS": "2", "WRITE_SECONDS": "17", "STOP_SECONDS": "12", "HEALTH": "/ok?x=1"}
    for name, value in values.items():
        monkeypatch.setenv(f"LAB_{name}", value)
    import runpy

    return runpy.run_path(str(tmp_path / "gunicorn.conf.py"))


def worker(threads: int) -> Any:
    return SimpleNamespace(cfg=SimpleNamespace(threads=threads, certfile=None, keyfile=None))


def test_hooks_of_the_release_run_as_well(config: dict[str, Any]) -> None:
    assert config["loglevel"] == "warning"
    assert "worker_class" not in config, "its own configuration decides"
    server, process_of = SimpleNamespace(), worker(1)
    config["on_starting"](server)
    config["pre_fork"](server, process_of)
    request = SimpleNamespace(method="POST", path="/form")
    config["pre_request"](process_of, request)
    assert process_of.health.activity.busy == 1
    assert process_of.health_lock.locked()
    config["post_request"](process_of, request, {}, None)
    assert process_of.health.activity.busy == 0
    assert not process_of.health_lock.locked()
    assert config["calls"] == ["/form", "done"]
    config["child_exit"](server, process_of)


def test_a_health_check_respects_a_process_with_one_thread(config: dict[str, Any]) -> None:
    calls: list[str] = []

    def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        calls.append("called")
        start_response("503 Service Unavailable", [])
        return [b"broken"]

    lock = threading.Lock()
    serial = config["SerialApplication"](wsgi, lock)
    statuses: list[str] = []
    assert serial({}, lambda status, _: statuses.append(status)) == [b"broken"]
    with lock:
        assert serial({}, lambda status, _: statuses.append(status)) == [b"busy\n"]
    assert statuses == ["503 Service Unavailable", "200 OK"]
    assert calls == ["called"]
    assert not lock.locked()
