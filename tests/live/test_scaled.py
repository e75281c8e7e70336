"""The topology ``scaled``: its virtual address, its table of failures, operations under load.

The tests share one lab. An orderly stop of a component must not fail any request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest

from provision.services.keepalived import interface as keepalived
from provision.services.tls.https import request
from tests.live.conftest import RunningLab, wait_until
from tests.live.faults.faults import release
from tests.live.faults.workload import Workload, WorkloadResult, count_writes

pytestmark = pytest.mark.live

STOPPED = ("systemctl stop keepalived", "systemctl stop haproxy")
FAULTS = ("kill -9 of HAProxy", "kill -9 of keepalived", "loss of power")
TAKEOVER = 1.2
"""Seconds without a response; including the client's own timeout of half a second."""


def holders(lab: RunningLab) -> list[str]:
    """The balancers that have the virtual address on their network interface."""
    session = lab.session()
    where = ("dev", keepalived.network_interface(session.context), "to", str(session.lab.address))
    argv = ("ip", "-4", "-oneline", "address", "show", *where)
    return [m.name for m in session.lab.with_role("keepalived") if lab.out(m.name, *argv).strip()]


class Clients:
    """Three clients of the virtual address, one connection per request, and their responses."""

    def __init__(self, lab: RunningLab) -> None:
        self.lab = lab.session().lab
        self.end = threading.Event()
        self.responses: list[tuple[float, str]] = []
        self.failures: list[tuple[float, str]] = []

    def run(self) -> None:
        while not self.end.is_set():
            page = request(self.lab, "/static/foobar.css", timeout=0.5)
            if page.status == 200:
                self.responses.append((time.monotonic(), page.header("x-balanced-by")))
            else:
                self.failures.append((time.monotonic(), page.error or str(page.status)))
            time.sleep(0.02)

    @property
    def gap(self) -> float:
        """The longest time without a response, in seconds."""
        moments = sorted(moment for moment, _ in self.responses)
        return max(later - sooner for sooner, later in pairwise(moments))

    @property
    def balancers(self) -> set[str]:
        """The balancers that responded."""
        return {name for _, name in self.responses}


@contextmanager
def clients_of(lab: RunningLab, before: float = 0.5, after: float = 1.5) -> Iterator[Clients]:
    """Clients that run during the body, and some time before and after it."""
    clients = Clients(lab)
    threads = [threading.Thread(target=clients.run, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(before)
        yield clients
        time.sleep(after)
    finally:
        clients.end.set()
        for thread in threads:
            thread.join(10)


def one_holder(lab: RunningLab, other_than: str = "") -> None:
    """Wait until one balancer has the address, and check that a returning one does not take it."""
    wait_until(lambda: len(holders(lab)) == 1, "one balancer has the address")
    time.sleep(1.2)  # longer than a VRRP election
    (now,) = holders(lab)
    assert now != other_than


def test_a_new_lab_passes_all_checks(scaled: RunningLab) -> None:
    assert scaled.up().stdout.count(" 0 changed") == 8
    checks = scaled.json("lab.check")["checks"]
    names = {check["check"] for check in checks}
    assert {"tls/web-01", "tls/app-02", "virtual-address", "autopromote", "targets/lb-01"} <= names
    assert {f"firewall/{m.name}" for m in scaled.session().lab.machines} <= names
    shown = scaled.json("lab.status")["machines"]
    services = {status["machine"]: status["services"] for status in shown}
    assert services["db-01"]["lab-autopromote"] == services["lb-02"]["keepalived"] == "active"
    scaled.invoke("lab.status")
    boxes = [b for layer in _diagram(scaled)["layers"] for b in layer["boxes"]]
    assert {p["state"] for b in boxes for p in b["programs"]} == {"active"}
    hops = scaled.json("dns.trace")["hops"]
    where = {hop["component"]: hop["location"].split()[-1] for hop in hops}
    assert where["application"] in ("app-01", "app-02")


def _diagram(lab: RunningLab) -> dict[str, Any]:
    return lab.json("lab.diagram")


def test_connections_to_the_application_use_verified_tls(scaled: RunningLab) -> None:
    plain = scaled.run("web-01", "curl", "-s", "--max-time", "3", f"http://{_app(scaled)}/version")
    assert not plain.ok, plain.stdout
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
            output = scaled.out("web-01", *log) + scaled.out("web-02", *log)
            return "upstream SSL certificate" in output

        wait_until(refused, "a web server refuses it, and visitors do not notice")
    finally:
        _certificate(scaled, own)


def _app(lab: RunningLab) -> str:
    return f"{lab.session().lab.machine('app-01').address}:8000"


def _certificate(lab: RunningLab, text: str) -> None:
    lab.out("app-01", "sh", "-c", "cat > /etc/foobar-lab/tls/site.pem", input=text)
    lab.out("app-01", "systemctl", "restart", "foobar.service")


@pytest.mark.parametrize("how", STOPPED)
def test_a_graceful_handover_loses_no_request(scaled: RunningLab, how: str) -> None:
    (before,) = holders(scaled)
    with clients_of(scaled) as clients:
        scaled.out(before, *how.split())
    try:
        assert clients.failures == []
        assert clients.gap < TAKEOVER
        assert len(clients.balancers) == 2
    finally:
        scaled.out(before, "systemctl", "start", "haproxy", "keepalived")
    one_holder(scaled, before)
    assert "lab_handover" not in scaled.out(before, "nft", "list", "tables")


def test_a_shutdown_of_the_holder_loses_no_request(scaled: RunningLab) -> None:
    (before,) = holders(scaled)
    with clients_of(scaled) as clients:
        scaled.invoke("lab.halt", before)
    try:
        assert clients.failures == []
        assert len(clients.balancers) == 2
    finally:
        scaled.invoke("lab.start", before)
    one_holder(scaled, before)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_takeover_after_a_failure_takes_about_a_second(scaled: RunningLab, fault: str) -> None:
    (before,) = holders(scaled)
    host = scaled.session()
    with clients_of(scaled, after=2.5) as clients:
        if fault == "loss of power":
            host.provider.kill(host.lab, before)
        else:
            service = fault.split()[-1].lower()
            scaled.out(before, "systemctl", "kill", "--signal=KILL", service)
    try:
        assert clients.gap <= TAKEOVER, clients.failures
        assert len(clients.balancers) == 2
    finally:
        if fault == "loss of power":
            scaled.invoke("lab.start", before)
    one_holder(scaled, before)


def test_a_network_partition_makes_two_holders_and_its_end_leaves_one(scaled: RunningLab) -> None:
    """VRRP cannot distinguish a failed peer from a partition; it resolves the conflict later."""
    drop = "add table inet cut; add chain inet cut in { type filter hook input priority -9; }; "
    drop += "add rule inet cut in ip protocol vrrp drop"
    both = [m.name for m in scaled.session().lab.with_role("keepalived")]
    try:
        for name in both:
            scaled.out(name, "nft", drop)
        wait_until(
            lambda: len(holders(scaled)) == 2, "both hold the address during the partition", 10
        )
        result = scaled.invoke("lab.check", "--only", "virtual-address", check=False)
        assert result.returncode == 1
    finally:
        for name in both:
            scaled.run(name, "nft", "delete table inet cut")
    wait_until(lambda: len(holders(scaled)) == 1, "one holds the address afterwards", 5)


def test_balancers_share_their_stick_tables(scaled: RunningLab) -> None:
    scaled.get("/")
    client = str(scaled.session().lab.gateway)

    def counted(machine: str) -> bool:
        argv = ("socat", "-", "/run/haproxy/admin.sock")
        return f"key={client}" in scaled.out(machine, *argv, input="show table visitors\n")

    for machine in ("lb-01", "lb-02"):
        wait_until(lambda m=machine: counted(m), f"{machine} has the client's entry")  # type: ignore[misc]


def test_every_balancer_serves_the_monitoring_page(scaled: RunningLab) -> None:
    definition = scaled.session().lab
    for machine in definition.with_role("haproxy"):
        page = request(definition, "/_monitor/", address=str(machine.address))
        assert page.status == 200, f"{machine.name}: {page.error or page.status}"
    scaled.get("/")
    shown = scaled.json("monitor.show")
    targets = {(row["job"], row["machine"]): row["up"] for row in shown["targets"]}
    assert len(targets) == 14
    assert all(targets.values())
    assert {row["server"] for row in shown["servers"]} == {"web-01", "web-02"}
    lines = scaled.json("monitor.qps")["servers"]
    assert {line["server"] for line in lines} == {"web-01", "web-02"}


def under_load(lab: RunningLab, seconds: float, operation: Callable[[], object]) -> WorkloadResult:
    """The results of a workload during an operation that must not lose a request."""
    workload = Workload(lab.session().lab, seconds)
    workload.start()
    workload.wait(0.5)
    operation()
    workload.stop()
    result = workload.finish()
    assert result.failures == ()
    assert result.acknowledged
    assert result.unanswered == frozenset()
    with lab.fleet() as fleet:
        counts = count_writes(fleet, result)
    assert {(c.missing, c.duplicated) for c in counts.values()} == {(0, 0)}
    return result


def test_a_deploy_and_a_rollback_lose_no_request(scaled: RunningLab) -> None:
    with release("9.1.0") as folder:
        result = under_load(scaled, 60, lambda: scaled.invoke("app.deploy", str(folder)))
    assert result.refusals == ()
    runs = scaled.json("app.releases")["releases"]
    assert [r["machines"] for r in runs if r["release"] == "9.1.0"] == [["app-01", "app-02"]]
    assert under_load(scaled, 60, lambda: scaled.invoke("app.rollback")).refusals == ()


@pytest.mark.parametrize("what", ["foobar", "app-01", "lb-01"])
def test_a_restart_loses_no_request(scaled: RunningLab, what: str) -> None:
    assert under_load(scaled, 90, lambda: scaled.invoke("lab.restart", what)).refusals == ()


def test_a_restart_of_the_primary_includes_a_switchover(scaled: RunningLab) -> None:
    primary = scaled.session().state.primary
    result = under_load(scaled, 120, lambda: scaled.invoke("lab.restart", primary))
    assert result.pause < 5
    assert scaled.session().state.primary == primary


def test_an_application_server_is_not_drained_at_the_balancer(scaled: RunningLab) -> None:
    result = scaled.invoke("lb.drain", "app-01", check=False)
    assert result.returncode == 2
    assert "web servers detect its failure automatically" in result.stderr
