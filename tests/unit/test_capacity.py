"""Limits that derive from gunicorn's threads, and HAProxy's and Nginx's configuration of them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from provision.core import capacity
from provision.core.lab import Lab
from provision.core.timeouts import TIMEOUTS
from tests.unit.samples import context
from tests.unit.test_timeouts import TOPOLOGIES, files


def lab(webs: int, apps: int) -> Lab:
    """The topology `scaled` with this many web and application servers."""
    scaled = context("scaled").lab
    web, app = scaled.machine("web-01"), scaled.machine("app-01")
    machines = [replace(web, name=f"web-{number}") for number in range(webs)]
    machines += [replace(app, name=f"app-{number}") for number in range(apps)]
    return replace(scaled, topology=replace(scaled.topology, machines=tuple(machines)))


@pytest.mark.parametrize(
    ("webs", "apps", "slots"),
    [(1, 1, [8]), (2, 2, [8, 8]), (2, 1, [4, 4]), (1, 3, [24]), (2, 3, [16, 8]), (3, 2, [4, 8, 4])],
)
def test_slots_are_shared_among_web_servers(webs: int, apps: int, slots: list[int]) -> None:
    sample = lab(webs, apps)
    assert [capacity.server_slots(sample, m) for m in sample.with_role("nginx")] == slots
    assert sum(slots) == apps * capacity.SLOTS
    preferred = {a for m in sample.with_role("nginx") for a in capacity.preferred_apps(sample, m)}
    assert preferred == set(sample.with_role("app"))


def test_the_queue_ends_before_its_timeout() -> None:
    waits = capacity.QUEUE_PER_SLOT * capacity.REQUEST_MILLISECONDS
    assert 0 < waits <= TIMEOUTS.queue
    assert capacity.queue_bound(context().lab) == capacity.SLOTS * capacity.QUEUE_PER_SLOT


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_limits_in_the_configuration_of_a_topology(name: str) -> None:
    rendered = files(name)
    threads = [text for path, text in rendered.items() if path.endswith("/app.env")]
    assert threads
    for text in threads:
        workers = int(re.findall(r"FOOBAR_WORKERS=(\d+)", text)[0])
        assert workers * int(re.findall(r"FOOBAR_THREADS=(\d+)", text)[0]) == capacity.SLOTS
    for path, text in rendered.items():
        if path.endswith("/haproxy.cfg"):
            web = text.partition("\nbackend web\n")[2].partition("\nbackend ")[0]
            assert re.findall(r"server web-\d+ .* maxconn (\d+)", web) == ["8", "8"]
            assert re.search(r"deny_status 503 if !static .*{ avg_queue\(web\) ge 64 }\n", text)
            assert "option http-buffer-request\n" in text
            assert "slowstart 3000ms" in web
        if path.endswith("/sites-available/www"):
            assert set(re.findall(r"limit_conn application (\d+);", text)) == {"72"}


def test_a_class_behind_one_address_is_not_limited() -> None:
    students, connections_of_a_browser = 40, 6
    assert 2 * students * connections_of_a_browser <= capacity.CONNECTIONS_PER_ADDRESS
    assert capacity.CONNECTIONS_PER_ADDRESS * 3 // 2 < capacity.CONNECTIONS
