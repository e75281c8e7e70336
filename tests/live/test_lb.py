"""Operator settings of the balancer: they apply at once and survive reload, restart and reboot."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from provision.services.haproxy import runtime, traffic
from provision.services.haproxy.statistics import ServerStatistics
from tests.live.conftest import RunningLab, wait_until
from tests.live.faults.faults import Fault, measure

pytestmark = pytest.mark.live


@pytest.fixture
def plain(lab: RunningLab) -> Iterator[RunningLab]:
    """The session's lab; all operator settings are reverted afterwards."""
    yield lab
    session = lab.session()
    with session.fleet() as fleet:
        defaults: dict[str, object] = {"admin": {}, "weights": {}, "mode": "", "algorithm": ""}
        context = traffic.record_and_apply(session.context, fleet, **defaults)
        for name in ("web-01", "web-02"):
            runtime.wait_until_up(context, fleet, name)


def status(lab: RunningLab) -> dict[str, ServerStatistics]:
    """The statistics of each server."""
    with lab.fleet() as fleet:
        return {
            view.name: view for view in runtime.statistics(lab.session().context, fleet)["lb-01"]
        }


def answering(lab: RunningLab, requests: int = 12) -> Counter[str]:
    """The number of responses by server."""
    return Counter(lab.get("/version").headers["X-Served-By"] for _ in range(requests))


def assert_shares(lab: RunningLab, shares: dict[str, int]) -> None:
    """Twelve requests are shared like this; a server that returns starts slowly."""
    wait_until(lambda: answering(lab) == shares, f"shares {shares}")


def on(lab: RunningLab, machine: str, *argv: str) -> None:
    lab.out(machine, *argv)


def disruptions(lab: RunningLab) -> Iterator[str]:
    """All events that a setting must survive, one after the other."""
    on(lab, "lb-01", "systemctl", "reload", "haproxy.service")
    yield "reload"
    on(lab, "lb-01", "systemctl", "restart", "haproxy.service")
    yield "restart"
    lab.invoke("lab.restart", "lb-01")
    yield "reboot"
    assert "unchanged" in lab.up().stdout
    yield "lab.up"


def change_at_runtime(lab: RunningLab, line: str) -> None:
    """Change a setting by a runtime command, unknown to the lab."""
    with lab.fleet() as fleet:
        assert runtime.run_commands(fleet.host("lb-01"), line)[0].strip() == ""


def test_lb_status_as_json(lab: RunningLab) -> None:
    servers = lab.json("lb.status")["balancers"][0]["servers"]
    assert [(v["server"], v["status"], v["weight"]) for v in servers] == [
        ("web-01", "UP", 1),
        ("web-02", "UP", 1),
    ]


def test_a_weight_applies_at_once_and_survives_reload_restart_reboot_and_up(
    plain: RunningLab,
) -> None:
    plain.invoke("lb.weight", "web-02", "2")
    assert_shares(plain, {"web-01": 4, "web-02": 8})
    for upheaval in disruptions(plain):
        assert status(plain)["web-02"].weight == 2, upheaval
        output = plain.invoke("lab.plan", "--detailed-exitcode").stdout
        assert "web-02: weight 2 instead of 1" in output, upheaval


def test_a_drain_survives_reload_restart_reboot_and_up(plain: RunningLab) -> None:
    plain.invoke("lb.drain", "web-01")
    for upheaval in disruptions(plain):
        assert status(plain)["web-01"].status == "DRAIN", upheaval
        assert answering(plain) == {"web-02": 12}, upheaval
        assert "web-01: drain" in plain.invoke("lab.plan", "--detailed-exitcode").stdout
    plain.invoke("lb.ready", "web-01")
    assert_shares(plain, {"web-01": 6, "web-02": 6})


def test_drift_at_run_time_is_planned_and_fixed(plain: RunningLab) -> None:
    change_at_runtime(plain, "set server web/web-01 weight 7")
    change_at_runtime(plain, "set server web/web-02 state maint")
    planned = plain.invoke("lab.plan", "--detailed-exitcode", check=False)
    assert planned.returncode == 3
    assert "web-01: weight 7 → weight 1" in planned.stdout
    assert "web-02: maint → weight 1" in planned.stdout
    plain.up()
    assert_shares(plain, {"web-01": 6, "web-02": 6})


@pytest.mark.parametrize("word", ["leastconn", "static-rr", "source", "roundrobin"])
def test_weights_and_drains_work_with_every_algorithm(plain: RunningLab, word: str) -> None:
    plain.invoke("lb.algorithm", word)
    if word == "source":
        assert len(answering(plain)) == 1
    else:
        assert_shares(plain, {"web-01": 6, "web-02": 6})
    plain.invoke("lb.weight", "web-02", "2")
    assert status(plain)["web-02"].weight == 2
    plain.invoke("lb.drain", "web-02")
    assert answering(plain) == {"web-01": 12}
    on(plain, "lb-01", "systemctl", "reload", "haproxy.service")
    plain.invoke("lb.ready", "web-02")
    assert {name: each.status for name, each in status(plain).items()} == {
        "web-01": "UP",
        "web-02": "UP",
    }
    if word in ("static-rr", "roundrobin"):
        assert_shares(plain, {"web-01": 4, "web-02": 8})
    assert "no changes" in plain.invoke("lab.plan", "--detailed-exitcode").stdout


@contextmanager
def slow_write(lab: RunningLab, server: str) -> Iterator[Callable[[], list[str]]]:
    """A request to a server that its client has not finished sending.

    HAProxy passes it on when its buffer is full (``option http-buffer-request``, 15 KiB); the
    application refuses more than 16 KiB.

    Yields:
        A function that finishes it and returns the first line of the response.
    """
    body = json.dumps({"author": "slow", "text": "slow"}).encode().ljust(16_300)
    head = f"POST /api/notes HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/json\r\nConnection: close\r\n\r\n"
    front = lab.url.removeprefix("http://")
    held: list[socket.socket] = []
    try:
        while not status(lab)[server].sessions:
            assert len(held) < 4, f"no request of these went to {server}"
            held.append(socket.create_connection((front, 80), timeout=10))
            held[-1].sendall(head.encode() + body[:-5])

        def finish() -> list[str]:
            answers = []
            for connection in held:
                connection.sendall(body[-5:])
                answers.append(connection.recv(4096).decode().splitlines()[0])
            return answers

        yield finish
    finally:
        for connection in held:
            connection.close()


def test_drain_waits_for_open_requests_up_to_its_deadline(plain: RunningLab) -> None:
    with slow_write(plain, "web-02") as finish:
        late = plain.invoke("lb.drain", "web-02", "--deadline", "0.5", check=False)
        assert late.returncode == 1
        assert "open sessions on web-02 after 0.5 s" in late.stderr
        assert status(plain)["web-02"].status == "DRAIN"
        assert answering(plain) == {"web-01": 12}
        session = plain.session()
        messages: list[str] = []
        with session.fleet() as fleet, ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(
                traffic.drain, session.context, fleet, "web-02", 20, messages.append
            )
            wait_until(lambda: bool(messages), "it reports the open sessions")
            assert not waiting.done()
            assert set(finish()) == {"HTTP/1.1 201 CREATED"}
            waiting.result(timeout=20)


def test_drain_waits_for_old_workers_after_a_reload(plain: RunningLab) -> None:
    with slow_write(plain, "web-02"):
        on(plain, "lb-01", "systemctl", "reload", "haproxy.service")
        late = plain.invoke("lb.drain", "web-02", "--deadline", "1", check=False)
        assert late.returncode == 1
        assert "of HAProxy processes from before a reload" in late.stderr
    plain.invoke("lb.drain", "web-02", "--deadline", "10")


def test_the_last_server_is_not_drained(plain: RunningLab) -> None:
    plain.invoke("lb.drain", "web-01")
    refused = plain.invoke("lb.drain", "web-02", check=False)
    assert refused.returncode == 2
    assert "no other server is up: draining web-02 would stop the site" in refused.stderr
    assert answering(plain) == {"web-02": 12}
    plain.invoke("lb.ready", "web-01")
    on(plain, "web-01", "systemctl", "stop", "nginx.service")
    wait_until(lambda: status(plain)["web-01"].status == "DOWN", "web-01 is down")
    assert plain.invoke("lb.drain", "web-02", check=False).returncode == 2
    # A server that is down can be drained; it stays drained when it is back.
    plain.invoke("lb.drain", "web-01")
    on(plain, "web-01", "systemctl", "start", "nginx.service")
    wait_until(lambda: status(plain)["web-01"].status == "DRAIN", "web-01 stays drained")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lb.drain", "web-09"), "choose from web-01, web-02"),
        (("lb.ready", "lb-01"), "choose from web-01, web-02"),
        (("lb.drain", "web-02", "--deadline", "soon"), "invalid --deadline 'soon'"),
        (("lb.drain", "web-02", "--deadline=-1"), "invalid --deadline '-1'"),
        (("lb.weight", "web-02", "0"), "invoke lb.drain"),
        (("lb.weight", "web-02", "257"), "1 to 256"),
        (("lb.weight", "web-02", "1.5"), "use an integer"),
        (("lb.weight", "web-02", "heavy"), "use an integer"),
        (("lb.mode", "active"), "active-active, active-passive"),
        (("lb.algorithm", "random"), "roundrobin, leastconn, static-rr, source"),
        (("lb.watch", "--every", "0"), "invalid --every '0'"),
    ],
)
def test_invalid_arguments_are_refused_and_change_nothing(
    lab: RunningLab, words: tuple[str, ...], message: str
) -> None:
    before = (lab.session().lab.directory / "state.json").read_text()
    refused = lab.invoke(*words, check=False)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert (lab.session().lab.directory / "state.json").read_text() == before


def _stop(unit: str) -> Fault:
    return Fault(
        f"{unit} stopped on the active server",
        lambda experiment: experiment.on("web-01", "systemctl", "stop", unit),
        lambda experiment: experiment.on("web-01", "systemctl", "start", unit, "foobar.service"),
        seconds=4,
    )


def test_the_passive_server_takes_over_and_fails_back_without_a_failed_read(
    plain: RunningLab,
) -> None:
    plain.invoke("lb.mode", "active-passive")
    assert answering(plain) == {"web-01": 12}
    for unit in ("foobar.socket", "nginx.service"):
        outcome = measure(plain, _stop(unit))
        assert outcome.result.failures == (), unit
        assert status(plain)["web-02"].total != 0
        assert answering(plain) == {"web-01": 12}


def test_watch_shows_every_server_repeatedly(lab: RunningLab) -> None:
    output = lab.invoke("lb.watch", "--seconds", "3", "--every", "0.3").stdout
    assert output.count("web-01") == output.count("web-02") >= 2
    assert "RATE" in output


def test_a_setting_that_haproxy_cannot_apply_is_kept_for_lab_up(plain: RunningLab) -> None:
    on(plain, "lb-01", "systemctl", "stop", "haproxy.service")
    plain.invoke("lb.weight", "web-02", "30", check=False)
    assert plain.session().state.weights == {"web-02": 30}
    plain.up()
    assert status(plain)["web-02"].weight == 30
