"""The checks, judged against the recorded observation of a real lab and against injected faults.

Each must name the right machine and service, and a command to run.
"""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from provision import checks
from provision.checks import CheckResult
from provision.checks.application import health_probe, version_probe
from provision.checks.balancer import STATISTICS
from provision.checks.database import read_back_probe
from provision.checks.distribution import (
    judge_backend,
    judge_pages,
    judge_sample,
    sample_is_complete,
)
from provision.checks.graph import evaluate, root_causes
from provision.checks.observation import Observation
from provision.database.agent.gtid import GtidSet
from provision.database.agent.probes import server_probe
from provision.database.agent.server_status import ServerStatus
from provision.database.agent.settings import settings_probe
from provision.database.agent.table_checksums import TableDifference
from provision.database.role import compare_with_primary
from provision.engine.agent.http import HttpResponse, SocketReply, collect_http
from provision.engine.agent.protocol import Probe, ProbeResponse, R, Results
from provision.engine.agent.services import ServiceState, service_probe
from provision.engine.agent.usage import FileSystem, Usage, usage_probe
from provision.services.haproxy.statistics import BackendStatistics
from provision.services.tls.https import SiteResponse
from tests.unit.samples import RECORDED, context, observation

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
LAB = str(RECORDED / "lab.yml")
HERE = context(LAB)
NOT_RECORDED = ("drift", "restart-required", "release")
"""Checks of the plan, which depends on this checkout; test_drift.py has them."""

WEBS = {machine.name: machine for machine in HERE.lab.with_role("nginx")}


def results(observed: Observation, **state: Any) -> dict[str, CheckResult]:
    """Every check's result by name, of those whose probes are recorded."""
    listed = checks.checks(context(LAB, **state))
    recorded = [c for c in listed if c.name.partition("/")[0] not in NOT_RECORDED]
    return {r.check.name: r for r in evaluate(recorded, observed)}


def failed(observed: Observation, **state: Any) -> list[str]:
    return [name for name, result in results(observed, **state).items() if not result.ok]


def test_all_checks_pass() -> None:
    assert failed(observation()) == []


def test_names_are_unique_and_the_list_is_complete() -> None:
    names = [c.name for c in checks.checks(HERE)]
    assert len(set(names)) == len(names)
    for expected in (
        *(f"machine/{m.name}" for m in HERE.lab.machines),
        "service/lb-01/haproxy",
        "service/web-02/mysql",
        "database/web-01",
        "replication/web-02",
        "data/web-02",
        "database-settings/web-01",
        "semisync/web-01",
        "web/web-01",
        "read-back/web-02",
        "balancer/lb-01/web-01",
        "site",
        "round-robin",
        "static",
        "not-found",
        "version",
        "write",
    ):
        assert expected in names
    for check in checks.checks(HERE):
        assert check.hint.startswith("invoke "), check.name
        assert check.machine in [m.name for m in HERE.lab.machines]


# --- faults --------------------------------------------------------------------------------------

Fault = Callable[[Observation], Observation]


def with_result(machine: str, probe: Probe[R], change: Callable[[R], R]) -> Fault:
    """Another result of one probe."""

    def fault(observed: Observation) -> Observation:
        results = observed.results[machine]
        response = ProbeResponse(change(results[probe]))
        responses = {**results.responses, probe.name: response}
        return replace(observed, results={**observed.results, machine: Results(machine, responses)})

    return fault


def full_disk(usage: Usage) -> Usage:
    """97 % of the root file system is used."""
    return replace(usage, filesystems=(FileSystem("/", 1000, 30, 1000, 900),))


def mysql(machine: str, **changes: Any) -> Fault:
    return with_result(machine, server_probe(), lambda status: replace(status, **changes))


def replica(machine: str, **changes: Any) -> Fault:
    def change(status: ServerStatus) -> ServerStatus:
        assert status.replica is not None
        return replace(status, replica=replace(status.replica, **changes))

    return with_result(machine, server_probe(), change)


def compared(machine: str, **changes: Any) -> Fault:
    return with_result(machine, compare_with_primary(HERE), lambda c: replace(c, **changes))


def service(machine: str, unit: str, **changes: str) -> Fault:
    def change(state: ServiceState) -> ServiceState:
        return replace(state, **changes)

    return with_result(machine, service_probe(f"{unit}.service"), change)


def response(make_probe: Callable[..., Probe[HttpResponse]], web: str, **changes: Any) -> Fault:
    """Another response of a web server to the balancer."""
    probe = make_probe(HERE, WEBS[web])
    return with_result("lb-01", probe, lambda response: replace(response, **changes))


def stats(old: str, new: str) -> Fault:
    """A changed field of web-02 in HAProxy's statistics."""

    def change(reply: SocketReply) -> SocketReply:
        row = next(line for line in reply.text.splitlines() if line.startswith("web,web-02,"))
        assert old in row
        return SocketReply(reply.text.replace(row, row.replace(old, new)))

    return with_result("lb-01", STATISTICS, change)


@pytest.mark.parametrize(
    ("fault", "name", "machine", "blamed", "got"),
    [
        (
            with_result("lb-01", usage_probe(), full_disk),
            "disk/lb-01",
            "lb-01",
            "disk",
            "97 % used",
        ),
        (
            service("lb-01", "haproxy", active="failed"),
            "service/lb-01/haproxy",
            "lb-01",
            "haproxy",
            "failed, enabled",
        ),
        (
            service("web-01", "mysql", enabled=""),
            "service/web-01/mysql",
            "web-01",
            "mysql",
            "active, not installed",
        ),
        (mysql("web-01", writable=False), "database/web-01", "web-01", "mysql", "read only"),
        (mysql("web-02", writable=True), "database/web-02", "web-02", "mysql", "writable"),
        (
            with_result("web-02", server_probe(), lambda _: ServerStatus(error="no socket")),
            "database/web-02",
            "web-02",
            "mysql",
            "no socket",
        ),
        (
            replica("web-02", sql_running="No"),
            "replication/web-02",
            "web-02",
            "mysql",
            "SQL thread stopped",
        ),
        (replica("web-02", io_error="Access denied for user"), "", "", "", ""),
        (
            replica("web-02", source="192.168.56.99"),
            "replication/web-02",
            "web-02",
            "mysql",
            "replicates from 192.168.56.99",
        ),
        (replica("web-02", lag=60), "", "", "", ""),  # judged by GTID
        (
            compared("web-02", missing=GtidSet(f"{UUID}:7-8"), oldest=60.0),
            "replication/web-02",
            "web-02",
            "mysql",
            "2 transactions missing, the oldest 60 s old",
        ),
        (
            compared("web-02", errant=GtidSet(f"{UUID}:7")),
            "replication/web-02",
            "web-02",
            "mysql",
            "1 errant transaction",
        ),
        (
            compared("web-02", differences=(TableDifference("foobar.notes", missing=3),)),
            "data/web-02",
            "web-02",
            "mysql",
            "foobar.notes: 3 rows missing",
        ),
        (
            with_result(
                "web-01",
                settings_probe(),
                lambda facts: replace(facts, values={**facts.values, "sync_binlog": "0"}),
            ),
            "database-settings/web-01",
            "web-01",
            "mysql",
            "sync_binlog is 0, not 1",
        ),
        (
            mysql("web-02", replica=None),
            "replication/web-02",
            "web-02",
            "mysql",
            "no replication source",
        ),
        (
            response(health_probe, "web-02", status=503),
            "web/web-02",
            "web-02",
            "foobar",
            "503 from",
        ),
        (
            response(health_probe, "web-01", status=0, headers={}, error="[Errno 113] No route"),
            "web/web-01",
            "web-01",
            "foobar",
            "No route",
        ),
        (
            response(health_probe, "web-01", headers={"x-served-by": "web-02"}),
            "web/web-01",
            "web-01",
            "foobar",
            "200 from web-02",
        ),
        (
            with_result("web-02", read_back_probe(), lambda r: replace(r, status=404, seconds=5.0)),
            "read-back/web-02",
            "web-02",
            "mysql",
            "status 404 after 5.0 s",
        ),
        (stats(",UP,", ",DOWN,"), "balancer/lb-01/web-02", "lb-01", "haproxy", "DOWN, check L7OK"),
        (stats(",UP,", ",MAINT,"), "balancer/lb-01/web-02", "lb-01", "haproxy", "MAINT"),
        (stats(",L7OK,", ",L4CON,"), "balancer/lb-01/web-02", "lb-01", "haproxy", "check L4CON"),
        (
            with_result("lb-01", STATISTICS, lambda _: SocketReply(error="Connection refused")),
            "balancer/lb-01/web-02",
            "lb-01",
            "haproxy",
            "lb-01 does not report it",
        ),
        (
            response(version_probe, "web-02", headers={"x-app-version": "2.0.0"}),
            "version",
            "web-01",
            "foobar",
            "web-02 2.0.0",
        ),
    ],
)
def test_a_fault_fails_the_check_of_its_machine_and_service(
    fault: Fault, name: str, machine: str, blamed: str, got: str
) -> None:
    judged = results(fault(observation()))
    if not name:  # an old error of a thread that runs again is not a fault
        assert all(r.ok for r in judged.values())
        return
    result = judged[name]
    assert not result.ok
    assert (result.check.machine, result.check.service) == (machine, blamed)
    assert got in result.verdict.got
    assert result.verdict.expected != result.verdict.got


def test_a_fallback_of_semi_sync_is_a_warning_that_is_waited_for() -> None:
    fallen_back = mysql("web-01", semisync_active=False)(observation())
    result = results(fallen_back)["semisync/web-01"]
    assert (result.status, result.ok, result.settled) == ("warning", True, False)
    assert result.verdict.got == "asynchronous (fallback)"
    # It is a consequence of a replica that does not replicate.
    judged = results(replica("web-02", sql_running="No")(fallen_back))
    assert judged["semisync/web-01"].status == "skipped"
    assert judged["semisync/web-01"].blocked_by == ("replication/web-02",)


def without(machine: str, **changes: Any) -> Observation:
    """The recorded observation without results of one machine."""
    good = observation()
    kept = {name: results for name, results in good.results.items() if name != machine}
    return replace(good, results=kept, **changes)


def test_a_halted_machine_fails_all_of_its_checks() -> None:
    states = {**observation().states, "web-02": "halted"}
    judged = results(without("web-02", states=states))
    assert not judged["machine/web-02"].ok
    assert judged["machine/web-02"].verdict.got == "halted"
    assert judged["machine/web-02"].check.hint == "invoke lab.up"
    for name in ("disk/web-02", "service/web-02/mysql", "database/web-02", "replication/web-02"):
        assert not judged[name].ok
    assert judged["machine/web-01"].ok


def test_an_unreachable_machine_shows_the_error() -> None:
    errors = {"lb-01": "lb-01: no SSH connection to 192.168.56.10 port 22 (timed out)"}
    judged = results(without("lb-01", errors=errors))
    assert "no SSH connection" in judged["machine/lb-01"].verdict.got


# --- the site ------------------------------------------------------------------------------------


def page(**more: Any) -> SiteResponse:
    headers = {"x-served-by": "web-01", "x-read-from": "web-01", **more.pop("headers", {})}
    return SiteResponse(**{"status": 200, "headers": headers, **more})


def served(*names: str) -> tuple[SiteResponse, ...]:
    return tuple(page(headers={"x-served-by": name}) for name in names)


@pytest.mark.parametrize(
    ("changes", "bad", "got"),
    [
        ({"pages": ()}, "site", "not requested"),
        ({"pages": (page(status=503),)}, "site", "1 of 1 failed: status 503"),
        ({"pages": (SiteResponse(error="refused"),)}, "site", "refused"),
        ({"pages": (page(headers={"x-read-from": ""}),)}, "site", "status 200"),
        ({"pages": served(*["web-01"] * 60)}, "round-robin", "web-01 60"),
    ],
)
def test_pages_of_the_site(changes: dict[str, Any], bad: str, got: str) -> None:
    judged = results(replace(observation(), **changes))
    assert not judged[bad].ok
    assert got in judged[bad].verdict.got
    assert judged[bad].check.machine == "lb-01"


@pytest.mark.parametrize(
    ("name", "answer", "bad", "got"),
    [
        ("static", SiteResponse(404), "static", "404 from Nginx"),
        ("static", SiteResponse(200, {"x-app-host": "web-01"}), "static", "200 from the app"),
        ("missing", SiteResponse(200), "not-found", "200"),
        ("missing", SiteResponse(error="reset"), "not-found", "reset"),
        ("write", SiteResponse(503), "write", "status 503, written to nothing"),
        ("write", SiteResponse(201, {"x-written-to": "web-02"}), "write", "written to web-02"),
    ],
)
def test_single_requests(name: str, answer: SiteResponse, bad: str, got: str) -> None:
    good = observation()
    judged = results(replace(good, responses={**good.responses, name: answer}))
    assert not judged[bad].ok
    assert got in judged[bad].verdict.got


# --- distribution of requests --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("servers", "state", "ok"),
    [
        ("1212", {}, True),
        ("1122", {}, True),  # other visitors take turns
        ("1121", {}, False),
        ("1111", {}, False),
        ("1122", {"weights": {"web-01": 200}}, True),
        ("1111", {"mode": "active-passive"}, True),
        ("1212", {"mode": "active-passive"}, False),
        ("2222", {"admin": {"web-01": "drain"}}, True),
        ("1212", {"admin": {"web-01": "drain"}}, False),
        ("2222", {"algorithm": "source"}, True),
        ("1212", {"algorithm": "source"}, False),
        ("1121", {"algorithm": "leastconn"}, True),
        ("", {}, False),
    ],
)
def test_requests_are_distributed_as_configured(
    servers: str, state: dict[str, Any], ok: bool
) -> None:
    pages = served(*(f"web-0{number}" for number in servers))
    assert judge_pages(context(LAB, **state), pages).ok is ok


@pytest.mark.parametrize(
    ("algorithm", "weights", "state", "ok"),
    [
        ("roundrobin", (1, 1), {}, True),
        ("source", (1, 1), {}, False),
        ("roundrobin", (9, 1), {}, False),
        ("roundrobin", (1, 0), {}, False),
        ("roundrobin", (1,), {}, False),
        ("roundrobin", (9, 1), {"weights": {"web-01": 9}}, True),
        ("first", (1, 1), {"mode": "active-passive"}, True),
        ("roundrobin", (1, 1), {"mode": "active-passive"}, False),
        ("roundrobin", (1, 0), {"admin": {"web-02": "drain"}}, True),
    ],
)
def test_each_haproxy_balances_as_recorded(
    algorithm: str, weights: tuple[int, ...], state: dict[str, Any], ok: bool
) -> None:
    by_name = {f"web-0{number}": weight for number, weight in enumerate(weights, 1)}
    verdict = judge_backend(context(LAB, **state), BackendStatistics(algorithm, by_name))
    assert verdict.ok is ok
    assert (verdict.expected == verdict.got) is ok


def test_more_pages_are_requested_only_while_servers_get_unequal_shares() -> None:
    here = context(LAB)
    assert not sample_is_complete(here, served(*["web-01", "web-02"] * 3))
    assert sample_is_complete(here, served(*["web-01", "web-02"] * 4))
    assert not sample_is_complete(here, served(*["web-01"] * 8))
    assert sample_is_complete(here, served(*["web-01"] * 60))
    assert sample_is_complete(here, (SiteResponse(error="refused"),))


@pytest.mark.parametrize(
    ("pages", "ok"),
    [
        (["web-01"] * 4, True),
        (["web-01"] * 60, False),
        (["web-01", "web-03"], False),
        ([], False),
    ],
    ids=["no-time-for-more", "unequal", "another-server", "none"],
)
def test_a_sample_that_ended_early_does_not_show_unequal_shares(pages: list[str], ok: bool) -> None:
    assert judge_sample(context(LAB), served(*pages)).ok is ok


@pytest.mark.parametrize(
    ("pages", "ok"),
    [
        (["web-01"] * 45 + ["web-02"] * 15, True),
        (["web-01"] * 60, True),
        (["web-01"] * 45 + ["web-03"] * 15, False),
        ([], False),
    ],
)
def test_shares_are_not_compared_during_a_slow_start(pages: list[str], ok: bool) -> None:
    verdict = judge_sample(context(LAB), served(*pages), returned=["web-02"])
    assert verdict.ok is ok
    assert ("slow start of web-02" in verdict.got) is ok


def test_a_recorded_drain_is_not_a_fault() -> None:
    good, drained = observation(), stats(",UP,", ",DRAIN,")(observation())
    name = "balancer/lb-01/web-02"
    assert results(drained, admin={"web-02": "drain"})[name].ok
    assert not results(drained)[name].ok
    assert not results(good, admin={"web-02": "drain"})[name].ok


def test_a_machine_that_is_too_slow_is_one_root_cause() -> None:
    observed = observation()
    slow = {
        name: ProbeResponse(error="no result in 7 s", late=True)
        for name in observed.results["lb-01"].responses
    }
    observed = replace(observed, results={**observed.results, "lb-01": Results("lb-01", slow)})
    listed = checks.checks(context(LAB))
    causes = root_causes(evaluate(listed, observed))
    mine = [cause for cause in causes if cause.result.check.machine == "lb-01"]
    assert [cause.result.check.name for cause in mine] == ["machine/lb-01"]
    assert "responds too slowly: no result of" in mine[0].text
    assert mine[0].result.check.hint == "invoke lab.ssh lb-01 -- top -b -n 1"


@pytest.mark.parametrize(
    ("statuses", "seen"), [([504, 200], 200), ([504] * 20, 504)], ids=["once", "always"]
)
def test_one_failed_health_check_alone_is_no_fault(statuses: list[int], seen: int) -> None:
    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        probe = health_probe(HERE, WEBS["web-01"])
        request = {**probe.args["request"], "address": "127.0.0.1", "port": server.server_port}
        assert collect_http({**probe.args, "request": request}).status == seen
    finally:
        server.shutdown()
        server.server_close()
