"""Automatic failover: its members, its units, its firewall ports and its checks."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provision import checks
from provision.checks import failover
from provision.checks.observation import Observation
from provision.database.failover import feature
from provision.database.failover.agent import wire
from provision.engine.agent.process import ProcessResult
from provision.engine.agent.protocol import Results
from provision.engine.agent.services import ServiceState, service_probe
from provision.engine.resources import File, Tree
from tests.unit.samples import context

THREE = ("lb-01", "web-01", "web-02")


def on(name: str = "distributed") -> Any:
    return context(name, autopromote=True)


def test_the_witness_has_no_database() -> None:
    for name in ("distributed", "secured", "scaled"):
        witness = feature.witness(context(name).lab)
        assert witness is not None
        assert witness.name == "lb-01"
    assert feature.witness(context("simple").lab) is None
    assert feature.members(context("simple").lab) == ()


@pytest.mark.parametrize("name", THREE)
def test_the_installed_program_is_complete(name: str, tmp_path: Path) -> None:
    """The machine starts it from these files alone."""
    enabled = on()
    (unit,) = feature.units(enabled, enabled.lab.machine(name))
    tree = next(r for r in unit.resources if isinstance(r, Tree))
    for path, _, content in tree.files:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    imports = "from provision.database.failover.agent import guard, rejoin, witness"
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {imports}"
    result = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", THREE)
def test_on_and_off(name: str) -> None:
    enabled = on()
    (unit,) = feature.units(enabled, enabled.lab.machine(name))
    assert unit.service == feature.SERVICE
    secret = next(r for r in unit.resources if getattr(r, "path", "") == feature.CONFIG)
    assert isinstance(secret, File)
    assert (secret.mode, secret.secret) == ("0600", True)
    off = context()
    (absent,) = feature.absent(off, off.lab.machine(name))
    assert absent.name == "autopromote-gone"
    # The witness stops before the guards, and each configuration is removed before its service.
    assert absent.needs == (() if name == "lb-01" else ("lb-01/autopromote-gone",))
    assert getattr(absent.resources[0], "path", "") == feature.CONFIG


def test_firewall_ports() -> None:
    enabled = on("secured")
    for name in THREE:
        machine = enabled.lab.machine(name)
        allowed = [a for a in enabled.ports(machine) if a.port == wire.PORT]
        assert len(allowed) == 1
        assert str(machine.address) not in allowed[0].sources
        assert len(allowed[0].sources) == 2
        off = context("secured")
        assert not [a for a in off.ports(machine) if a.port == wire.PORT]


def _observe(text: str, active: str = "active") -> Observation:
    """A witness with this decision, and services in this state."""
    values = {
        failover.DECISION.name: ProcessResult(0 if text else 1, text, ""),
        service_probe(feature.SERVICE).name: ServiceState(active, "enabled"),
    }
    return Observation({}, {name: Results.of(name, values) for name in THREE})


def _checks(context: Any) -> dict[str, checks.Check]:
    return {c.name: c for c in checks.checks(context) if "autopromote" in c.name}


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        ('{"serial": 1, "primary": "web-01", "promotable": "x", "order": ""}', True),
        ('{"serial": 1, "primary": "web-01", "promotable": "", "order": ""}', False),
        ('{"serial": 1, "primary": "web-02", "promotable": "x", "order": ""}', False),
        ('{"serial": 1, "primary": "web-01", "promotable": "x", "order": "x"}', False),
        ('{"serial": 1,', False),
        ("", False),
    ],
)
def test_the_check_names_the_eligible_replica(text: str, ok: bool) -> None:
    failover_checks = _checks(on())
    expected = {"autopromote", *(f"service/{m}/lab-autopromote" for m in THREE)}
    assert expected <= set(failover_checks)
    verdict = failover_checks["autopromote"].judge(_observe(text))
    assert verdict.ok == ok
    assert "web-02 is eligible for promotion" in verdict.expected


def test_a_member_that_is_not_active_fails_its_check() -> None:
    services = [c for name, c in _checks(on()).items() if name.startswith("service/")]
    assert all(c.judge(_observe("")).ok for c in services)
    assert not any(c.judge(_observe("", "failed")).ok for c in services)


def test_without_automatic_failover_there_is_no_check() -> None:
    assert _checks(context()) == {}
    simple = context("simple")
    assert _checks(replace(simple, state=replace(simple.state, autopromote=True))) == {}
