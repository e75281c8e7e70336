"""The checks, judged against the recorded observation of a real lab and against injected faults.

Each must name the right machine and service, and a command to run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from provision import checks
from provision.checks import CheckResult, judge
from provision.checks.application import web_probe
from provision.checks.balancer import STATISTICS, alternates
from provision.checks.database import read_back_probe
from provision.checks.machines import DISK_USAGE
from provision.checks.observation import Observation
from provision.database.agent.probes import server_probe
from provision.database.agent.server_status import ServerStatus
from provision.engine.agent.http import SocketReply
from provision.engine.agent.process import ProcessResult
from provision.engine.agent.protocol import Probe, ProbeResponse, R, Results
from provision.engine.agent.services import ServiceState, service_probe
from provision.services.tls.https import SiteResponse
from tests.unit.samples import RECORDED, context, observation

LAB = str(RECORDED / "lab.yml")
HERE = context(LAB)
WEBS = {machine.name: machine for machine in HERE.lab.with_role("nginx")}


def results(observed: Observation, **state: Any) -> dict[str, CheckResult]:
    """Every check's result by name."""
    return {r.check.name: r for r in judge(context(LAB, **state), observed)}


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


def mysql(machine: str, **changes: Any) -> Fault:
    return with_result(machine, server_probe(), lambda status: replace(status, **changes))


def replica(machine: str, **changes: Any) -> Fault:
    def change(status: ServerStatus) -> ServerStatus:
        assert status.replica is not None
        return replace(status, replica=replace(status.replica, **changes))

    return with_result(machine, server_probe(), change)


def service(machine: str, unit: str, **changes: str) -> Fault:
    def change(state: ServiceState) -> ServiceState:
        return replace(state, **changes)

    return with_result(machine, service_probe(f"{unit}.service"), change)


def response(web: str, path: str, **changes: Any) -> Fault:
    """Another response of a web server to the balancer."""
    probe = web_probe(HERE, WEBS[web], path)
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
            with_result("lb-01", DISK_USAGE, lambda _: ProcessResult(0, "Use%\n 97%\n", "")),
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
            "refuses connections",
        ),
        (
            mysql("web-01", semisync_active=False),
            "semisync/web-01",
            "web-01",
            "mysql",
            "asynchronous (fallback)",
        ),
        (
            replica("web-02", sql_running="No"),
            "replication/web-02",
            "web-02",
            "mysql",
            "SQL thread No",
        ),
        (replica("web-02", io_error="Access denied for user"), "", "", "", ""),
        (
            replica("web-02", source="192.168.56.99"),
            "replication/web-02",
            "web-02",
            "mysql",
            "source 192.168.56.99",
        ),
        (replica("web-02", lag=60), "replication/web-02", "web-02", "mysql", "lag 60 s"),
        (replica("web-02", lag=None), "replication/web-02", "web-02", "mysql", "lag unknown"),
        (
            mysql("web-02", replica=None),
            "replication/web-02",
            "web-02",
            "mysql",
            "no replication source",
        ),
        (response("web-02", "/healthz", status=503), "web/web-02", "web-02", "foobar", "503 from"),
        (
            response("web-01", "/healthz", status=0, headers={}, error="[Errno 113] No route"),
            "web/web-01",
            "web-01",
            "foobar",
            "No route",
        ),
        (
            response("web-01", "/healthz", headers={"x-served-by": "web-02"}),
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
        (stats(",UP,", ",DOWN,"), "balancer/lb-01/web-02", "web-02", "nginx", "DOWN, check L7OK"),
        (stats(",UP,", ",MAINT,"), "balancer/lb-01/web-02", "web-02", "nginx", "MAINT"),
        (stats(",L7OK,", ",L4CON,"), "balancer/lb-01/web-02", "web-02", "nginx", "check L4CON"),
        (
            with_result("lb-01", STATISTICS, lambda _: SocketReply(error="Connection refused")),
            "balancer/lb-01/web-02",
            "web-02",
            "nginx",
            "lb-01 does not report it",
        ),
        (
            response("web-02", "/version", headers={"x-app-version": "2.0.0"}),
            "version",
            "lb-01",
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
    assert set(result.values()) == {
        "name",
        "machine",
        "service",
        "next",
        "ok",
        "expected",
        "got",
    }


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
        ({"rounds": ()}, "site", "not requested"),
        ({"rounds": ((page(status=503),),)}, "site", "1 of 1 failed: status 503"),
        ({"rounds": ((SiteResponse(error="refused"),),)}, "site", "refused"),
        ({"rounds": ((page(headers={"x-read-from": ""}),),)}, "site", "status 200"),
        ({"rounds": (served("web-01", "web-01"),)}, "round-robin", "web-01 web-01"),
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


def test_alternation() -> None:
    assert alternates(served("a", "b", "a", "b"), 2)
    assert not alternates(served("a", "b", "b", "a"), 2)
    assert not alternates(served("a", "a", "a", "a"), 2)
    assert not alternates(served("", "b", "", "b"), 2)
    assert alternates(served("a", "b", "c", "a", "b", "c"), 3)


@pytest.mark.parametrize(
    ("names", "state", "ok"),
    [
        (("web-01", "web-02", "web-01", "web-02"), {}, True),
        (("web-01", "web-01", "web-02", "web-02"), {}, False),
        (("web-01", "web-01", "web-02", "web-02"), {"weights": {"web-01": 200}}, True),
        (("web-01", "web-01", "web-01", "web-01"), {"mode": "active-passive"}, True),
        (("web-01", "web-02", "web-01", "web-02"), {"mode": "active-passive"}, False),
        (("web-02", "web-02", "web-02", "web-02"), {"admin": {"web-01": "drain"}}, True),
        (("web-01", "web-02", "web-01", "web-02"), {"admin": {"web-01": "drain"}}, False),
        (("web-02", "web-02", "web-02", "web-02"), {"algorithm": "source"}, True),
        (("web-01", "web-02", "web-01", "web-02"), {"algorithm": "source"}, False),
        (("web-01", "web-01", "web-02", "web-01"), {"algorithm": "leastconn"}, True),
    ],
)
def test_requests_are_distributed_as_configured(
    names: tuple[str, ...], state: dict[str, Any], ok: bool
) -> None:
    observed = replace(observation(), rounds=(served(*names),))
    assert results(observed, **state)["round-robin"].ok is ok


def test_a_recorded_drain_is_not_a_fault() -> None:
    good, drained = observation(), stats(",UP,", ",DRAIN,")(observation())
    name = "balancer/lb-01/web-02"
    assert results(drained, admin={"web-02": "drain"})[name].ok
    assert not results(drained)[name].ok
    assert not results(good, admin={"web-02": "drain"})[name].ok
