"""A short overload, write readiness, and how soon a hung application is noticed."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest

from provision.services.haproxy.interface import STATIC_BACKEND
from provision.services.haproxy.runtime import run_commands
from provision.services.haproxy.statistics import server_rows
from tests.live.conftest import RunningLab, wait_until
from tests.live.overload.bench import measure, show_result

pytestmark = pytest.mark.live

WRITES = "writes"
"""The backend whose health checks tell which servers can write."""

NOTICED_SECONDS = 3.0 * 1.5
"""A hung application is out of rotation after 3 s; more on a host that is shared."""


def state(lab: RunningLab, backend: str, server: str) -> str:
    """The state of a server in one backend, such as ``UP`` or ``DOWN``."""
    with lab.fleet() as fleet:
        (text,) = run_commands(fleet.host(lab.session().lab.front.name), "show stat")
    return server_rows(text, backend)[server]["status"].split()[0]


def write(lab: RunningLab) -> int:
    """The status of one write."""
    note = {"id": uuid4().hex, "author": "readiness", "text": "hello"}
    return lab.post("/api/notes", note).status_code


def test_beyond_its_capacity_the_site_serves_what_fits(lab: RunningLab) -> None:
    result = measure(lab, 5.0)
    show_result(result)
    assert result.unexpected == 0, result.failures
    assert result.static[1] == 0, "static files are served throughout"
    assert result.acknowledged[1] == 0, "an acknowledged write is lost"
    assert result.downs == 0, "a healthy server was marked DOWN"
    assert result.ratio > 0.5


def test_writes_go_where_they_can_succeed(repaired: RunningLab) -> None:
    """The application server beside the replica does not reach the primary."""
    lab = repaired
    session = lab.session()
    primary = session.state.primary
    cut = next(m.name for m in session.lab.with_role("app") if m.name != primary)
    address = f"{session.lab.machine(primary).address}/32"
    lab.out(cut, "ip", "route", "add", "blackhole", address)
    try:
        wait_until(lambda: state(lab, WRITES, cut) == "DOWN", "it is not ready to write", 10)
        assert [write(lab) for _ in range(20)] == [201] * 20
        reads = [lab.get("/api/notes?limit=1") for _ in range(20)]
        assert [read.status_code for read in reads] == [200] * 20
        assert state(lab, "web", cut) == "UP", "it still serves reads"
        assert cut in {read.headers["X-Served-By"] for read in reads}
    finally:
        lab.out(cut, "ip", "route", "del", "blackhole", address)
    wait_until(lambda: state(lab, WRITES, cut) == "UP", "it is ready to write again", 15)


def test_a_hung_application_is_noticed_and_static_files_are_served(repaired: RunningLab) -> None:
    lab = repaired
    hung = lab.session().lab.with_role("app")[-1].name
    lab.out(hung, "systemctl", "kill", "--signal=STOP", "foobar.service")
    try:
        stopped = time.monotonic()
        wait_until(lambda: state(lab, "web", hung) == "DOWN", "it is out of rotation", 10)
        seconds = time.monotonic() - stopped
        print(f"a hung application was noticed after {seconds:.1f} s")
        assert seconds < NOTICED_SECONDS
        assert state(lab, STATIC_BACKEND, hung) == "UP", "its Nginx serves static files"
        assert [lab.get("/").status_code for _ in range(10)] == [200] * 10
        assert lab.get("/static/foobar.css").status_code == 200
    finally:
        lab.out(hung, "systemctl", "kill", "--signal=CONT", "foobar.service")
    wait_until(lambda: state(lab, "web", hung) == "UP", "it serves again", 15)


def test_only_a_balancer_that_has_a_server_is_ready(repaired: RunningLab) -> None:
    """Keepalived's script and the other balancer ask /ready on the statistics port."""
    lab = repaired
    front = lab.session().lab.front.name
    webs = [m.name for m in lab.session().lab.with_role("nginx")]

    def ready() -> str:
        argv = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"]
        return lab.run(front, *argv, "http://127.0.0.1:8404/ready").stdout

    assert ready() == "200"
    for name in webs:
        lab.out(name, "systemctl", "stop", "nginx.service")
    try:
        wait_until(lambda: ready() == "503", "it is not ready", 10)
        refused = lab.get("/api/notes")
        assert refused.status_code == 503
        assert refused.headers["Retry-After"]
        assert refused.headers["Content-Type"] == "application/json"
    finally:
        for name in webs:
            lab.out(name, "systemctl", "start", "nginx.service")
    wait_until(lambda: ready() == "200", "it is ready again", 15)
