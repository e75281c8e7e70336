"""What stands in the way of a lab on some host, and the command that mends it."""

from __future__ import annotations

import json
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision.core.lab import Lab
from provision.providers.base import Problem
from provision.providers.lxc.preflight import Facts, file_system, networks_in, problems

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


def only(lab: Lab, facts: Facts) -> Problem:
    """The one problem there is."""
    found = problems(lab, facts)
    assert len(found) == 1, found
    return found[0]


def test_a_good_host_has_no_problems(lab: Lab) -> None:
    assert problems(lab, Facts()) == []


def test_missing_programs_are_named_with_the_command_that_installs_their_packages(lab: Lab) -> None:
    problem = only(lab, Facts(missing=("lxc-start", "dnsmasq"), keyring=False))
    assert problem.what == "not installed: lxc-start, dnsmasq, Debian's archive keys"
    assert "apt-get install --no-install-recommends debian-archive-keyring dnsmasq-base lxc" in (
        problem.advice
    )


def test_neither_root_nor_sudo(lab: Lab) -> None:
    assert "need root" in only(lab, Facts(root=False, sudo=False)).what
    assert problems(lab, Facts(root=False, sudo=True)) == []


@pytest.mark.parametrize(
    ("free", "cached", "least", "fine"),
    [
        (4095, False, "", False),
        (4096, False, "", True),
        (1100, True, "", True),
        (1000, True, "", False),
        (99999, False, "100000", False),
        (99, False, "50", True),
    ],
)
def test_room_for_images(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, free: int, cached: bool, least: str, fine: bool
) -> None:
    monkeypatch.setenv("LAB_MIN_FREE_MIB", least)
    found = problems(lab, Facts(free={"/var/cache/x": free}, cached=cached))
    assert (not found) == fine
    if found:
        assert f"{free} MiB are free in /var/cache/x" in found[0].what
        assert "LAB_CACHE=" in found[0].advice


def test_networks_of_a_host_without_the_labs_own_bridge() -> None:
    assert dict(networks_in(ADDRESSES, ROUTES, "lab-7e5e8cf8")) == {
        IPv4Network("127.0.0.0/8"): "interface lo has 127.0.0.1",
        IPv4Network("192.168.56.0/24"): "interface vboxnet0 has 192.168.56.1",
        IPv4Network("192.168.57.0/24"): (
            "interface lab-00000000 has 192.168.57.1 (the bridge of another lab)"
        ),
        IPv4Network("10.8.0.0/16"): "a route to 10.8.0.0/16 over tun0",
    }


def test_a_network_in_use_is_named_and_a_free_one_suggested(lab: Lab) -> None:
    facts = Facts(networks=networks_in(ADDRESSES, ROUTES, "lab-7e5e8cf8"))
    problem = only(lab, facts)
    assert problem.what == (
        "the network 192.168.56.0/24 is in use on this host already: "
        "interface vboxnet0 has 192.168.56.1"
    )
    assert problem.advice == "--network 192.168.58.0/24"
    assert problem.fatal


def test_no_package_source(lab: Lab) -> None:
    problem = only(lab, Facts(source="no package source\nnext: LAB_MIRROR=x scripts/up"))
    assert problem == Problem("no package source", "LAB_MIRROR=x scripts/up")


def test_a_kernel_that_cannot(lab: Lab) -> None:
    assert only(lab, Facts(kernel=("veth",))).what == "this kernel has no veth"


def test_overlays_do_not_stand_on_overlays(lab: Lab) -> None:
    mounts = "overlay / overlay rw 0 0\n/dev/sda /var/lib ext4 rw 0 0\n"
    assert file_system(Path("/var/cache/foobar-lab"), mounts) == "overlay"
    assert file_system(Path("/var/lib/foobar-lab"), mounts) == "ext4"
    assert "on an overlay" in only(lab, Facts(stacked=("/var/cache/foobar-lab",))).what


def test_old_style_iptables_are_mentioned(lab: Lab) -> None:
    problem = only(lab, Facts(legacy=True))
    assert not problem.fatal
    assert "iptables-legacy -I FORWARD -i lab-7e5e8cf8 -j ACCEPT" in problem.advice
