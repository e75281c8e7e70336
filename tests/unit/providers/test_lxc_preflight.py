"""Preflight problems of a host for LXC, and the commands that fix them."""

from __future__ import annotations

import json
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision.core.lab import Lab
from provision.providers.base import PreflightProblem
from provision.providers.lxc.host_facts import (
    LxcHostFacts,
    file_system_type,
    parse_networks,
)
from provision.providers.lxc.preflight import problems

ADDRESSES = json.loads("""[
  {"ifname": "lo", "addr_info": [{"family": "inet", "local": "127.0.0.1", "prefixlen": 8}]},
  {"ifname": "vboxnet0", "addr_info": [{"family": "inet", "local": "192.168.56.1", "prefixlen": 24}]},
  {"ifname": "lab-7e5e8cf8", "addr_info": [{"family": "inet", "local": "192.168.60.1", "prefixlen": 24}]},
  {"ifname": "lab-00000000", "addr_info": [{"family": "inet", "local": "192.168.57.1", "prefixlen": 24}]},
  {}]""")  # noqa: E501
ROUTES = json.loads("""[
  {"dst": "default", "gateway": "10.0.2.2", "dev": "eth0"},
  {"dst": "10.8.0.0/16", "dev": "tun0"},
  {"dst": "192.168.60.0/24", "dev": "lab-7e5e8cf8"}]""")


def only(lab: Lab, facts: LxcHostFacts) -> PreflightProblem:
    """The only problem."""
    result = problems(lab, facts)
    assert len(result) == 1, result
    return result[0]


def test_a_suitable_host_has_no_problems(lab: Lab) -> None:
    assert problems(lab, LxcHostFacts()) == []


def test_missing_programs_are_listed_with_the_command_that_installs_them(lab: Lab) -> None:
    problem = only(lab, LxcHostFacts(missing_programs=("lxc-start", "dnsmasq"), keyring=False))
    assert problem.what == "not installed: lxc-start, dnsmasq, Debian's archive keys"
    assert "apt-get install --no-install-recommends debian-archive-keyring dnsmasq-base lxc" in (
        problem.hint
    )


def test_neither_root_nor_sudo(lab: Lab) -> None:
    assert "needs root" in only(lab, LxcHostFacts(root=False, sudo=False)).what
    assert problems(lab, LxcHostFacts(root=False, sudo=True)) == []


@pytest.mark.parametrize(
    ("free", "built", "setting", "sufficient"),
    [
        (4095, False, "", False),
        (4096, False, "", True),
        (1100, True, "", True),
        (1000, True, "", False),
        (99999, False, "100000", False),
        (99, False, "50", True),
    ],
)
def test_disk_space(
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    built: bool,
    setting: str,
    sufficient: bool,
) -> None:
    monkeypatch.setenv("LAB_MIN_FREE_MIB", setting)
    facts = LxcHostFacts(free_mib={"/var/cache/x": free}, base_image_built=built)
    result = problems(lab, facts)
    assert (not result) == sufficient
    if result:
        assert f"{free} MiB are free in /var/cache/x" in result[0].what
        assert "invoke lab.prune" in result[0].hint
        assert "LAB_CACHE=" in result[0].hint


def test_networks_of_a_host_except_the_labs_own_bridge() -> None:
    assert dict(parse_networks(ADDRESSES, ROUTES, "lab-7e5e8cf8")) == {
        IPv4Network("127.0.0.0/8"): "interface lo has 127.0.0.1",
        IPv4Network("192.168.56.0/24"): "interface vboxnet0 has 192.168.56.1",
        IPv4Network("192.168.57.0/24"): (
            "interface lab-00000000 has 192.168.57.1 (the bridge of another lab)"
        ),
        IPv4Network("10.8.0.0/16"): "a route to 10.8.0.0/16 over tun0",
    }


def test_a_network_in_use_is_reported_with_a_free_one(lab: Lab) -> None:
    facts = LxcHostFacts(networks=parse_networks(ADDRESSES, ROUTES, "lab-7e5e8cf8"))
    problem = only(lab, facts)
    assert problem.what == (
        "the network 192.168.56.0/24 is already in use on this host: "
        "interface vboxnet0 has 192.168.56.1"
    )
    assert problem.hint == "--network 192.168.58.0/24"
    assert problem.fatal


def test_missing_kernel_features(lab: Lab) -> None:
    problem = only(lab, LxcHostFacts(missing_kernel_features=("veth",)))
    assert problem.what == "the kernel does not support veth"


def test_an_overlay_file_system_cannot_hold_another(lab: Lab) -> None:
    mounts = "overlay / overlay rw 0 0\n/dev/sda /var/lib ext4 rw 0 0\n"
    assert file_system_type(Path("/var/cache/foobar-lab"), mounts) == "overlay"
    assert file_system_type(Path("/var/lib/foobar-lab"), mounts) == "ext4"
    assert "on an overlay" in only(lab, LxcHostFacts(on_overlay=("/var/cache/foobar-lab",))).what


def test_iptables_legacy_is_a_warning(lab: Lab) -> None:
    problem = only(lab, LxcHostFacts(legacy_iptables=True))
    assert not problem.fatal
    assert "iptables-legacy -I FORWARD -i lab-7e5e8cf8 -j ACCEPT" in problem.hint
