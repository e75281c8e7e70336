"""The ladder of timeouts: a caller outlasts what it calls, in every topology and every template."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from provision.core import timeouts
from provision.core.lab import ROOT
from provision.core.timeouts import TIMEOUTS
from provision.engine.resources import File
from tests.unit.samples import context

TOPOLOGIES = sorted(p.stem for p in (ROOT / "configs" / "topologies").glob("*.yml"))
ON_THE_WAY = ("haproxy", "nginx", "keepalived", "app")
TEMPLATES = sorted(p for name in ON_THE_WAY for p in (ROOT / "configs" / name).glob("*.j2"))
LITERAL = re.compile(r"(?im)^[^#\n]*(?<!response-)timeout\w*( \w+)?[ =]+[1-9]")
SET_OF_ADDRESSES = "        timeout 60s\n"
"""In nftables: when the handover forgets a client's connection, for which no client waits."""


def files(topology: str) -> dict[str, str]:
    """The content of all files of a topology, by machine and path."""
    at = context(topology)
    return {
        f"{machine.name}:{resource.path}": resource.content
        for machine in at.lab.machines
        for unit in at.desired(machine)
        for resource in unit.resources
        if isinstance(resource, File)
    }


def milliseconds(pattern: str, text: str) -> int:
    """The only value of a directive."""
    values = {int(value) for value in re.findall(pattern, text)}
    assert len(values) == 1, (pattern, values)
    return values.pop()


@pytest.mark.parametrize("ladder", [TIMEOUTS.visitors, TIMEOUTS.writes, TIMEOUTS.checks])
def test_each_rung_is_longer_than_the_one_below(ladder: tuple[tuple[str, int], ...]) -> None:
    for (lower, short), (upper, long) in pairwise(ladder):
        assert short < long, f"{upper} ({long} ms) gives up before {lower} ({short} ms)"


def test_a_failed_server_is_noticed_within_three_seconds() -> None:
    intervals = timeouts.CHECK_INTERVAL + timeouts.FAST_INTERVAL
    assert intervals + timeouts.CHECK_FALLS * TIMEOUTS.check < 3_000


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_has_a_timeout_of_its_own(template: Path) -> None:
    text = template.read_text(encoding="utf-8").replace(SET_OF_ADDRESSES, "")
    assert [match.group() for match in LITERAL.finditer(text)] == []


def test_a_timeout_of_its_own_would_be_found() -> None:
    for line in ("    timeout check 700ms\n", "proxy_read_timeout 20s;\n", "TimeoutStopSec=15\n"):
        assert LITERAL.search(line)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_the_rendered_ladder_of_a_topology(name: str) -> None:
    rendered = files(name)
    sites = [text for path, text in rendered.items() if path.endswith("/sites-available/www")]
    balancers = [text for path, text in rendered.items() if path.endswith("/haproxy.cfg")]
    assert sites
    assert bool(balancers) == (name != "simple")
    for site in sites:
        connects = [int(value) for value in re.findall(r"proxy_connect_timeout (\d+)ms", site)]
        reads = [int(value) for value in re.findall(r"proxy_read_timeout (\d+)ms", site)]
        connect, health_connect = connects
        write, read, health = reads
        assert health_connect + health < TIMEOUTS.app_read < read < write
        for config in balancers:
            check = milliseconds(r"timeout check (\d+)ms", config)
            server = milliseconds(r" {4}timeout server (\d+)ms\n", config)
            server_read = milliseconds(r"set-timeout server (\d+)ms", config)
            client = milliseconds(r"timeout client (\d+)ms", config)
            queue = milliseconds(r"timeout queue (\d+)ms", config)
            assert health_connect + health < check < TIMEOUTS.app_read
            assert connect + read < server_read < server
            assert connect + write < server < client - queue


DEBIANS = {"nginx.service": 5}
"""TimeoutStopSec= in Debian's units, which no drop-in of the lab changes."""

NO_PROCESS = re.compile(r"^Type=oneshot", re.MULTILINE)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_service_that_hangs_is_killed_soon(topology: str) -> None:
    """Otherwise its restart takes 90 s (systemd-system.conf(5), DefaultTimeoutStopSec=)."""
    at = context(topology)
    missing, seen = set(), set()
    for machine in at.lab.machines:
        units = at.desired(machine)
        texts: dict[str, str] = {}
        for resource in (resource for unit in units for resource in unit.resources):
            if isinstance(resource, File):
                name = re.sub(r"\.d/[\w-]+\.conf$", "", resource.path).rpartition("/")[2]
                texts[name] = texts.get(name, "") + resource.content
        for unit in units:
            text = texts.get(unit.service, "")
            if not unit.service.endswith(".service") or NO_PROCESS.search(text):
                continue
            if unit.service.startswith(("ssh", "systemd-")):
                continue  # part of every Debian, and not a service of the site
            seen.add(unit.service)
            values = [int(value) for value in re.findall(r"^TimeoutStopSec=(\d+)", text, re.M)]
            if not 0 < min(values, default=DEBIANS.get(unit.service, 0)) <= 60:
                missing.add(unit.service)
    assert len(seen) > 2
    assert not missing
