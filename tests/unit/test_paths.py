"""Every path of a request, and the hop at which it stops."""

from __future__ import annotations

import itertools

import pytest

from provision.checks.paths import PathHop, hop_error, hop_probe, paths, traced
from provision.engine.agent.http import HttpResponse
from tests.unit.samples import context


@pytest.mark.parametrize(
    ("topology", "count", "first"),
    [
        ("simple", 1, "web-01"),
        ("distributed", 4, "lb-01"),
        ("secured", 4, "lb-01"),
        ("scaled", 16, "lb-01"),
    ],
)
def test_every_balancer_web_server_application_and_database_is_passed(
    topology: str, count: int, first: str
) -> None:
    lab = context(topology).lab
    all_paths = list(paths(lab))
    assert len(all_paths) == len(set(all_paths)) == count
    assert all_paths[0][0] == PathHop("workstation", first, "haproxy" if count > 1 else "nginx")
    passed = {(hop.server, hop.service) for path in all_paths for hop in path}
    for role, service in (("haproxy", "haproxy"), ("nginx", "nginx"), ("app", "foobar")):
        for machine in lab.with_role(role):
            assert (machine.name, service) in passed
    for path in all_paths:
        assert all(a.server == b.client for a, b in itertools.pairwise(path))


def test_a_path_stops_at_its_first_hop_that_fails() -> None:
    lab = context("scaled").lab
    errors = {hop: "" for path in paths(lab) for hop in path}
    assert all(path.ok for path in traced(paths(lab), errors))
    broken = PathHop("web-01", "app-02", "foobar")
    later = PathHop("app-02", "db-01", "mysql")
    results = traced(paths(lab), {**errors, broken: "refused", later: "503"})
    stopped = [path for path in results if not path.ok]
    assert len(stopped) == 6
    through = [path for path in stopped if broken in path.hops]
    assert {path.failed for path in through} == {broken}
    assert {path.error for path in through} == {"refused"}
    assert {path.failed for path in stopped if broken not in path.hops} == {later}
    assert stopped[0].text.startswith("workstation → lb-01 (haproxy) → web-01 (nginx) → app-02")


@pytest.mark.parametrize("topology", ["distributed", "secured", "scaled", "simple"])
def test_probes_of_one_machine_have_different_names(topology: str) -> None:
    here = context(topology)
    hops = {hop for path in paths(here.lab) for hop in path if hop.client != "workstation"}
    for client in {hop.client for hop in hops}:
        names = [hop_probe(here, hop, "m", True).name for hop in hops if hop.client == client]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("service", "response", "written", "error"),
    [
        ("nginx", HttpResponse(404), True, ""),
        ("nginx", HttpResponse(200), True, "status 200"),
        ("nginx", HttpResponse(error="timed out"), True, "timed out"),
        ("foobar", HttpResponse(200), True, ""),
        ("foobar", HttpResponse(502, body="bad\n gateway"), True, "status 502: bad gateway"),
        ("mysql", HttpResponse(200), True, ""),
        ("mysql", HttpResponse(404), True, "status 404"),
        ("mysql", HttpResponse(404), False, ""),
        ("mysql", HttpResponse(503), False, "status 503"),
        ("mysql", None, True, "app-01 could not send the request"),
    ],
)
def test_expected_response_of_each_hop(
    service: str, response: HttpResponse | None, written: bool, error: str
) -> None:
    assert hop_error(PathHop("app-01", "x", service), response, written) == error
