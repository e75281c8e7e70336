"""A lab for tests that need no machines."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision.core.lab import Lab, Machine, Topology


@pytest.fixture
def lab() -> Lab:
    """Two machines, one with a database; the checkout's place makes its id 7e5e8cf8."""
    network = IPv4Network("192.168.56.0/24")
    machines = (
        Machine("lb-01", network[10], ("haproxy",)),
        Machine("web-01", network[11], ("nginx", "app", "mysql")),
    )
    topology = Topology("t", "foobar.com", network, machines, "web-01")
    return Lab("default", Path("/checkout"), topology)
