"""The table of `lab.doctor --host`."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision.commands import hostcheck
from provision.commands.hostcheck import Row, rows
from provision.core.lab import Lab, Topology
from provision.providers import choice
from provision.providers.base import Problem

MISSING, NOTE = Problem("no x", "install x"), Problem("slow", "hurry", fatal=False)


def test_a_provider_is_ready_with_notes_or_lacks_what_is_named_first() -> None:
    assert rows("lxc", [], "fine") == [Row("lxc", "ready", "fine")]
    assert rows("lxc", [NOTE], "fine") == [
        Row("lxc", "ready", "fine"),
        Row("", "note", "slow", "hurry"),
    ]
    assert rows("lxc", [NOTE, MISSING], "fine") == [
        Row("lxc", "missing", "no x", "install x"),
        Row("", "note", "slow", "hurry"),
    ]


def test_all_providers_are_looked_at_and_no_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked:
        def __init__(self, name: str) -> None:
            assert name != "ssh"  # its preflight would connect to machines
            self.name = name

        def preflight(self, _lab: Lab) -> list[Problem]:
            return [MISSING] if self.name == "vagrant" else []

    monkeypatch.setattr(hostcheck, "provider", Asked)
    monkeypatch.setattr(choice, "gather", choice.Host)
    lab = Lab("x", Path("/nowhere"), Topology("t", "a.b", IPv4Network("192.168.56.0/24"), ()))
    found, (name, _) = hostcheck.host(lab, "Linux")
    assert [(row.provider, row.word) for row in found] == [
        ("lxc", "ready"),
        ("vagrant", "missing"),
        ("ssh", "ready"),
    ]
    assert name == "lxc"
    found, _ = hostcheck.host(lab, "Windows")
    assert found[0] == Row(
        "lxc", "missing", "containers need Linux, and this is Windows", "use the provider vagrant"
    )
