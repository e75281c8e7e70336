"""Where the parts of db.autopromote go, what the firewall opens for them, and what is checked."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provision import registry as roles
from provision.checks import automatic
from provision.checks.observation import Seen
from provision.database.failover import role as autopromote
from provision.database.failover.agent import wire as autopromote_wire
from provision.engine.resources import File, Tree
from tests.unit.samples import context

THREE = ("lb-01", "web-01", "web-02")


def on(name: str = "distributed") -> Any:
    return context(name, autopromote=True)


def test_the_third_party_has_no_database() -> None:
    for name in ("distributed", "secured", "scaled"):
        third = autopromote.supervisor(context(name).lab)
        assert third is not None
        assert third.name == "lb-01"
    assert autopromote.supervisor(context("simple").lab) is None
    assert autopromote.parties(context("simple").lab) == ()


@pytest.mark.parametrize("name", THREE)
def test_the_program_is_whole(name: str, tmp_path: Path) -> None:
    """It is started on the machine from these files alone."""
    now = on()
    (unit,) = autopromote.units(now, now.lab.machine(name))
    tree = next(r for r in unit.resources if isinstance(r, Tree))
    for path, _, content in tree.files:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    asked = "from provision.database.failover.agent import guard, witness"
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {asked}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", THREE)
def test_on_and_off(name: str) -> None:
    now = on()
    (unit,) = autopromote.units(now, now.lab.machine(name))
    assert unit.service == autopromote.SERVICE
    secret = next(r for r in unit.resources if getattr(r, "path", "") == autopromote.CONFIG)
    assert isinstance(secret, File)
    assert (secret.mode, secret.secret) == ("0600", True)
    off = context()
    (gone,) = autopromote.units(off, off.lab.machine(name))
    assert gone.name == "autopromote-gone"
    # Guards go after the supervisor, and their configuration before themselves.
    assert gone.needs == (() if name == "lb-01" else ("lb-01/autopromote-gone",))
    assert getattr(gone.resources[0], "path", "") == autopromote.CONFIG


def test_what_the_firewall_opens() -> None:
    now = on("secured")
    for name in THREE:
        machine = now.lab.machine(name)
        mine = [a for a in roles.ports(now, machine) if a.port == autopromote_wire.PORT]
        assert len(mine) == 1
        assert str(machine.address) not in mine[0].sources
        assert len(mine[0].sources) == 2
        off = context("secured")
        assert not [a for a in roles.ports(off, machine) if a.port == autopromote_wire.PORT]


def _seen(now: Any, text: str, active: str = "active") -> Seen:
    answers: dict[str, Any] = {}
    for machine in now.lab.machines:
        state = {"ActiveState": "active", "UnitFileState": "enabled"}
        count = len(roles.services(machine))
        services = [state] * count + [state | {"ActiveState": active}]
        answers[machine.name] = {"service": services, "command": [{"out": text}]}
    return Seen({}, answers)


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
def test_the_check_says_who_is_promotable(text: str, ok: bool) -> None:
    now = on()
    found = {check.name: check for check in automatic.checks(now)}
    assert set(found) == {"autopromote", *(f"service/{m}/lab-autopromote" for m in THREE)}
    verdict = found["autopromote"].judge(_seen(now, text))
    assert verdict.ok == ok
    assert "web-02 is promotable" in verdict.expected


def test_a_party_that_does_not_run_is_seen() -> None:
    now = on()
    services = [c for c in automatic.checks(now) if c.name.startswith("service/")]
    assert all(c.judge(_seen(now, "")).ok for c in services)
    assert not any(c.judge(_seen(now, "", "failed")).ok for c in services)


def test_off_there_is_no_check() -> None:
    assert list(automatic.checks(context())) == []
    simple = context("simple")
    there = replace(simple, state=replace(simple.state, autopromote=True))
    assert list(automatic.checks(there)) == []
