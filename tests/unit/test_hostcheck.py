"""The table of `lab.doctor --host`."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision.commands import hostcheck
from provision.commands.hostcheck import Row, rows
from provision.core.lab import Lab, Topology
from provision.providers.base import PreflightProblem
from provision.setup import choice

MISSING, NOTE = (
    PreflightProblem("no x", "install x"),
    PreflightProblem("slow", "hurry", fatal=False),
)


def test_a_provider_is_ready_with_notes_or_missing_with_the_fatal_problems_first() -> None:
    assert rows("lxc", [], "fine") == [Row("lxc", "ready", "fine")]
    assert rows("lxc", [NOTE], "fine") == [
        Row("lxc", "ready", "fine"),
        Row("", "note", "slow", "hurry"),
    ]
    assert rows("lxc", [NOTE, MISSING], "fine") == [
        Row("lxc", "missing", "no x", "install x"),
        Row("", "note", "slow", "hurry"),
    ]


def test_providers_are_checked_without_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    class CheckedProvider:
        def __init__(self, name: str) -> None:
            assert name != "ssh"  # its preflight would connect to machines
            self.name = name

        def preflight(self, _lab: Lab) -> list[PreflightProblem]:
            return [MISSING] if self.name == "vagrant" else []

    monkeypatch.setattr(hostcheck, "provider", CheckedProvider)
    monkeypatch.setattr(choice, "detect", choice.HostCapabilities)
    lab = Lab("x", Path("/nowhere"), Topology("t", "a.b", IPv4Network("192.168.56.0/24"), ()))
    found, (name, _) = hostcheck.host(lab, "Linux")
    assert [(row.provider, row.severity) for row in found] == [
        ("lxc", "ready"),
        ("vagrant", "missing"),
        ("incus", "ready"),
        ("ssh", "ready"),
    ]
    assert name == "lxc"
    found, _ = hostcheck.host(lab, "Windows")
    assert found[0] == Row(
        "lxc",
        "missing",
        "containers require Linux, and this is Windows",
        "use the provider vagrant",
    )
