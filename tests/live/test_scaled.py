"""The design that has every part twice: its address, its table of failures, work while it serves.

One lab for all of it. Nothing that is stopped in order may cost a visitor a request.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest

from provision.checks.observe import request
from provision.services.keepalived import role as keepalived
from tests.live.conftest import RunningLab, wait_until
from tests.live.faults.faults import release
from tests.live.faults.stream import Stream, Users, count

pytestmark = pytest.mark.live

STOPPED = ("systemctl stop keepalived", "systemctl stop haproxy")
FAULTS = ("kill -9 of HAProxy", "kill -9 of keepalived", "loss of power")
TAKEOVER = 1.2
"""Seconds without an answer; the client itself gives up after half a second, a part of this."""


def holders(lab: RunningLab) -> list[str]:
    """Which balancers have the shared address on their network card."""
    now = lab.session()
    where = ("dev", keepalived.interface(now.context), "to", str(now.lab.address))
    argv = ("ip", "-4", "-oneline", "address", "show", *where)
    return [m.name for m in now.lab.with_role("keepalived") if lab.out(m.name, *argv).strip()]


class Visitors:
    """Three at a time who ask the shared address, each on a new connection, and what they saw."""

    def __init__(self, lab: RunningLab) -> None:
        self.lab = lab.session().lab
        self.end = threading.Event()
        self.answers: list[tuple[float, str]] = []
        self.failures: list[tuple[float, str]] = []

    def ask(self) -> None:
        while not self.end.is_set():
            page = request(self.lab, "/static/foobar.css", timeout=0.5)
            if page.status == 200:
                self.answers.append((time.monotonic(), page.header("x-balanced-by")))
            else:
                self.failures.append((time.monotonic(), page.error or str(page.status)))
            time.sleep(0.02)

    @property
    def gap(self) -> float:
        """Seconds of the longest time without an answer."""
        moments = sorted(moment for moment, _ in self.answers)
        return max(later - sooner for sooner, later in pairwise(moments))

    @property
    def through(self) -> set[str]:
        """The balancers that answered."""
        return {name for _, name in self.answers}


@contextmanager
def visited(lab: RunningLab, before: float = 0.5, after: float = 1.5) -> Iterator[Visitors]:
    """Visitors from a moment before until a moment after what happens meanwhile."""
    visitors = Visitors(lab)
    threads = [threading.Thread(target=visitors.ask, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(before)
        yield visitors
        time.sleep(after)
    finally:
        visitors.end.set()
        for thread in threads:
            thread.join(10)


def one_holder(lab: RunningLab, other_than: str = "") -> None:
    """One balancer has the address, and whoever came back does not take it."""
    wait_until(lambda: len(holders(lab)) == 1, "one balancer has the address")
    time.sleep(1.2)  # longer than any election
    (now,) = holders(lab)
    assert now != other_than


def test_from_nothing_it_is_complete(scaled: RunningLab) -> None:
    assert scaled.up().stdout.count(" 0 changed") == 8
    found = json.loads(scaled.invoke("lab.check", "--json").stdout)
    names = {check["name"] for check in found}
    assert {"tls/web-01", "tls/app-02", "virtual-address", "autopromote", "targets/lb-01"} <= names
    assert {f"firewall/{m.name}" for m in scaled.session().lab.machines} <= names
    shown = json.loads(scaled.invoke("lab.status", "--json").stdout)["machines"]
    services = {each["name"]: each["services"] for each in shown}
    assert services["db-01"]["lab-autopromote"] == services["lb-02"]["keepalived"] == "active"
    scaled.invoke("lab.status")
    boxes = [b for layer in _diagram(scaled)["layers"] for b in layer["boxes"]]
    assert {p["state"] for b in boxes for p in b["programs"]} == {"active"}
    hops = json.loads(scaled.invoke("dns.trace", "--json").stdout)
    where = {hop["what"]: hop["where"].split()[-1] for hop in hops}
    assert where["application"] in ("app-01", "app-02")


def _diagram(lab: RunningLab) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.invoke("lab.diagram", "--json").stdout)
    return found


def test_the_way_to_the_application_is_encrypted_and_verified(scaled: RunningLab) -> None:
    plain = scaled.run("web-01", "curl", "-s", "--max-time", "3", f"http://{_app(scaled)}/version")
    assert not plain.ok, plain.out
    argv = ("curl", "-s", "--max-time", "3", "--cacert", "/etc/foobar-lab/tls/ca.pem")
    assert "version" in scaled.out("web-01", *argv, f"https://{_app(scaled)}/version")
    # The certificate of a web server is not one of an application server.
    stolen = scaled.out("web-01", "cat", "/etc/foobar-lab/tls/site.pem")
    own = scaled.out("app-01", "cat", "/etc/foobar-lab/tls/site.pem")
    try:
        _certificate(scaled, stolen)
        log = ("journalctl", "-u", "nginx", "-o", "cat", "-n", "200", "--no-pager")

        def refused() -> bool:
            assert scaled.get("/version").status_code == 200
            said = scaled.out("web-01", *log) + scaled.out("web-02", *log)
            return "upstream SSL certificate" in said

        wait_until(refused, "a web server refuses it, and visitors do not notice")
    finally:
        _certificate(scaled, own)


def _app(lab: RunningLab) -> str:
    return f"{lab.session().lab.machine('app-01').address}:8000"


def _certificate(lab: RunningLab, text: str) -> None:
    lab.out("app-01", "sh", "-c", "cat > /etc/foobar-lab/tls/site.pem", input=text)
    lab.out("app-01", "systemctl", "restart", "foobar.service")


@pytest.mark.parametrize("how", STOPPED)
def test_the_address_leaves_in_order_and_no_request_is_lost(scaled: RunningLab, how: str) -> None:
    (before,) = holders(scaled)
    with visited(scaled) as visitors:
        scaled.out(before, *how.split())
    try:
        assert visitors.failures == []
        assert visitors.gap < TAKEOVER
        assert len(visitors.through) == 2
    finally:
        scaled.out(before, "systemctl", "start", "haproxy", "keepalived")
    one_holder(scaled, before)
    assert "lab_handover" not in scaled.out(before, "nft", "list", "tables")


def test_a_machine_is_stopped_in_order_and_no_request_is_lost(scaled: RunningLab) -> None:
    (before,) = holders(scaled)
    with visited(scaled) as visitors:
        scaled.invoke("lab.halt", before)
    try:
        assert visitors.failures == []
        assert len(visitors.through) == 2
    finally:
        scaled.invoke("lab.start", before)
    one_holder(scaled, before)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_address_moves_within_a_second_and_has_one_holder(
    scaled: RunningLab, fault: str
) -> None:
    (before,) = holders(scaled)
    host = scaled.session()
    with visited(scaled, after=2.5) as visitors:
        if fault == "loss of power":
            host.provider.kill(host.lab, before)
        else:
            service = fault.split()[-1].lower()
            scaled.out(before, "systemctl", "kill", "--signal=KILL", service)
    try:
        assert visitors.gap <= TAKEOVER, visitors.failures
        assert len(visitors.through) == 2
    finally:
        if fault == "loss of power":
            scaled.invoke("lab.start", before)
    one_holder(scaled, before)


def test_a_cut_network_makes_two_holders_and_healing_leaves_one(scaled: RunningLab) -> None:
    """VRRP cannot tell a dead neighbour from a cut line; it can end the quarrel."""
    drop = "add table inet cut; add chain inet cut in { type filter hook input priority -9; }; "
    drop += "add rule inet cut in ip protocol vrrp drop"
    both = [m.name for m in scaled.session().lab.with_role("keepalived")]
    try:
        for name in both:
            scaled.out(name, "nft", drop)
        wait_until(lambda: len(holders(scaled)) == 2, "both have it while they cannot hear", 10)
        done = scaled.invoke("lab.check", "--only", "virtual-address", check=False)
        assert done.returncode == 1
    finally:
        for name in both:
            scaled.run(name, "nft", "delete table inet cut")
    wait_until(lambda: len(holders(scaled)) == 1, "one has it once the network is whole", 5)


def test_both_balancers_know_what_one_has_counted(scaled: RunningLab) -> None:
    scaled.get("/")
    client = str(scaled.session().lab.gateway)

    def counted(machine: str) -> bool:
        argv = ("socat", "-", "/run/haproxy/admin.sock")
        return f"key={client}" in scaled.out(machine, *argv, input="show table visitors\n")

    for machine in ("lb-01", "lb-02"):
        wait_until(lambda m=machine: counted(m), f"{machine} knows the visitor")  # type: ignore[misc]


def test_monitoring_is_shown_by_either_balancer(scaled: RunningLab) -> None:
    now = scaled.session().lab
    for machine in now.with_role("haproxy"):
        page = request(now, "/_monitor/", address=str(machine.address))
        assert page.status == 200, f"{machine.name}: {page.error or page.status}"
    scaled.get("/")
    shown = json.loads(scaled.invoke("monitor.show", "--json").stdout)
    targets = {(each["job"], each["machine"]): each["up"] for each in shown["targets"]}
    assert len(targets) == 14
    assert all(targets.values())
    assert {each["name"] for each in shown["servers"]} == {"web-01", "web-02"}
    assert set(json.loads(scaled.invoke("monitor.qps", "--json").stdout)) == {"web-01", "web-02"}


def work(lab: RunningLab, seconds: float, what: Callable[[], object]) -> Stream:
    """What users saw while something was done that must not cost them a request."""
    users = Users(lab.session().lab, seconds)
    users.start()
    users.wait(0.5)
    what()
    users.end()
    stream = users.finish()
    assert stream.failures == ()
    assert stream.acknowledged
    assert stream.unanswered == frozenset()
    with lab.fleet() as fleet:
        found = count(fleet, stream)
    assert all((each.missing, each.doubled) == (0, 0) for each in found.values()), found
    return stream


def test_a_deploy_and_the_way_back_lose_nothing(scaled: RunningLab) -> None:
    with release("9.1.0") as folder:
        stream = work(scaled, 60, lambda: scaled.invoke("app.deploy", str(folder)))
    assert stream.refusals == ()
    runs = json.loads(scaled.invoke("app.releases", "--json").stdout)
    assert [r["machines"] for r in runs if r["version"] == "9.1.0"] == [["app-01", "app-02"]]
    assert work(scaled, 60, lambda: scaled.invoke("app.rollback")).refusals == ()


@pytest.mark.parametrize("what", ["foobar", "app-01", "lb-01"])
def test_a_restart_loses_nothing(scaled: RunningLab, what: str) -> None:
    assert work(scaled, 90, lambda: scaled.invoke("lab.restart", what)).refusals == ()


def test_a_restart_of_the_primary_hands_the_writes_over(scaled: RunningLab) -> None:
    primary = scaled.session().state.primary
    stream = work(scaled, 120, lambda: scaled.invoke("lab.restart", primary))
    assert stream.pause < 5
    assert scaled.session().state.primary == primary


def test_an_application_server_is_not_drained_at_the_balancer(scaled: RunningLab) -> None:
    done = scaled.invoke("lb.drain", "app-01", check=False)
    assert done.returncode == 2
    assert "web servers pass it over by themselves" in done.stderr
