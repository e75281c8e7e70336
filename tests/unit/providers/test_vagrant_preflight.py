"""What stands in the way of virtual machines on some host, and the step that mends it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from provision.core.lab import Lab, rebase
from provision.providers.base import Problem
from provision.providers.vagrant import asking, facts, preflight
from provision.providers.vagrant.facts import Facts
from provision.providers.vagrant.preflight import fits, problems

VIRSH = " 0a1b2c3d-0000-1111-2222-0123456789ab foobar-lab-7e5e8cf8-web-01\n"


def only(lab: Lab, facts: Facts) -> Problem:
    """The one problem there is."""
    found = problems(lab, facts)
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize("system", ["Linux", "macOS", "Windows"])
def test_a_good_host_has_no_problems(lab: Lab, system: str) -> None:
    assert problems(lab, Facts(system)) == []
    assert problems(lab, Facts(system, virtualisation=None)) == []
    assert problems(lab, Facts(provider="libvirt", virtualbox="")) == []


@pytest.mark.parametrize(
    ("system", "vagrant", "virtualbox"),
    [
        ("Linux", "apt-get", "virtualbox.org"),
        ("macOS", "brew", "brew"),
        ("Windows", "winget", "winget"),
    ],
)
def test_programs_that_are_missing_are_named_with_each_systems_way_to_install_them(
    lab: Lab, system: str, vagrant: str, virtualbox: str
) -> None:
    found = problems(lab, Facts(system, vagrant="", virtualbox=""))
    assert [p.what for p in found] == ["Vagrant is not installed", "VirtualBox is not installed"]
    assert vagrant in found[0].advice
    assert virtualbox in found[1].advice


@pytest.mark.parametrize(
    ("vagrant", "virtualbox", "needed"),
    [
        ("2.3.4", "7.1.6r167084", "2.4.2"),
        ("2.4.2", "7.1.6", ""),
        ("2.4.8", "7.2.0", "2.4.9"),
        ("2.4.9", "7.2.22", ""),
        ("2.3.1", "7.0.20", "2.3.2"),
        ("2.3.4", "7.0.20", ""),
        ("2.2.0", "6.1.50", ""),
        ("", "7.2.0", ""),
    ],
)
def test_versions_must_fit_each_other(vagrant: str, virtualbox: str, needed: str) -> None:
    found = fits(vagrant, virtualbox)
    assert bool(found) == bool(needed), found
    if found:
        assert f"install Vagrant {needed} or newer" in found[0].advice
        assert found[0].fatal


def test_a_newer_virtualbox_than_is_known_is_only_a_note() -> None:
    assert [p.fatal for p in fits("2.4.9", "7.3.0")] == [False]


def test_what_keeps_virtualbox_from_the_processor(lab: Lab) -> None:
    assert "/dev/vboxdrv" in only(lab, Facts(driver=False)).what
    off = only(lab, Facts(virtualisation=False))
    assert "VT-x" in off.what
    assert "--provider lxc" in off.advice
    assert "lxc" not in only(lab, Facts("Windows", virtualisation=False)).advice
    hyper = only(lab, Facts("Windows", hypervisor=True, virtualisation=False))
    assert "bcdedit /set hypervisorlaunchtype off" in hyper.advice
    assert not hyper.fatal
    assert "arm64" in only(lab, Facts("macOS", arch="arm64", virtualbox="7.1.4")).what
    assert problems(lab, Facts("macOS", arch="arm64", virtualbox="7.1.6")) == []


def test_host_only_networks_lie_where_virtualbox_allows_them(lab: Lab) -> None:
    elsewhere = replace(lab, topology=rebase(lab.topology, IPv4Network("10.1.2.0/24")))
    problem = only(elsewhere, Facts())
    assert "192.168.56.0/21 alone, not 10.1.2.0/24" in problem.what
    assert "echo '* 10.1.2.0/24' >>/etc/vbox/networks.conf" in problem.advice
    assert "networks.conf" not in only(elsewhere, Facts("Windows")).advice
    ranges = asking.ranges("# ours\n* 10.0.0.0/8 192.168.0.0/16\n* fd00::/8\n")
    assert ranges == (IPv4Network("10.0.0.0/8"), IPv4Network("192.168.0.0/16"))
    assert problems(elsewhere, Facts(ranges=ranges)) == []
    assert asking.ranges("") == (facts.HOST_ONLY,)


def test_what_libvirt_needs(lab: Lab) -> None:
    facts = Facts(provider="libvirt", plugin=False, libvirt=False, kvm=False, own_box=True)
    found = problems(lab, replace(facts, box=False))
    assert [p.fatal for p in found] == [True, True, False, True]
    assert "apt-get install vagrant-libvirt" in found[0].advice
    assert "systemctl start libvirtd" in found[1].advice
    assert "emulated" in found[2].what
    assert found[3].advice == "invoke box.build"
    mac = problems(lab, Facts("macOS", provider="libvirt"))
    assert mac == [Problem("libvirt is for Linux alone", "VAGRANT_DEFAULT_PROVIDER=virtualbox")]


def test_somebody_else_on_the_labs_network(lab: Lab) -> None:
    other = IPv4Address("192.168.56.77")
    for provider in ("virtualbox", "libvirt"):
        problem = only(lab, Facts(provider=provider, source=other))
        assert "this host is in 192.168.56.0/24 already (with 192.168.56.77)" in problem.what
        assert "--network" in problem.advice
    # A host-only adapter is used again by VirtualBox; for libvirt it is in the way.
    assert problems(lab, Facts(source=lab.gateway)) == []
    assert only(lab, Facts(provider="libvirt", source=lab.gateway)).fatal
    assert problems(lab, Facts(provider="libvirt", source=lab.gateway, made=("web-01",))) == []
    assert problems(lab, Facts(source=IPv4Address("10.0.2.15"))) == []


def test_memory_and_disk(lab: Lab) -> None:
    wanted = sum(m.memory for m in lab.machines)
    assert problems(lab, Facts(memory=wanted + preflight.RESERVE_MIB)) == []
    tight = only(lab, Facts(memory=wanted))
    assert f"the machines want {wanted}" in tight.what
    assert not tight.fatal
    assert only(lab, Facts(memory=wanted // 2)).fatal
    assert problems(lab, Facts(memory=100, made=("web-01",))) == []  # they have theirs already
    disk = only(lab, Facts(free=(("/home/x", 100),)))
    assert "100 MiB are free in /home/x" in disk.what
    assert "VAGRANT_HOME=" in disk.advice


def test_what_earlier_attempts_have_left(lab: Lab) -> None:
    left = only(lab, Facts(made=("lb-01",), unknown=("lb-01",)))
    assert not left.fatal
    assert "invoke lab.destroy" in left.advice
    stray = only(lab, Facts(strays=("web-09",)))
    assert "web-09" in stray.what
    other = only(lab, Facts(others=("checkout_web-01_1_2",)))
    assert other.advice == "VBoxManage unregistervm NAME --delete"
    assert not other.fatal
    assert only(lab, Facts(provider="libvirt", others=("x",))).fatal


def test_machines_that_look_like_ours_and_that_vagrant_does_not_know() -> None:
    number = "0a1b2c3d-0000-1111-2222-0123456789ab"
    listed = (
        f'"main_lb-01_1700000000000_12345" {{{number}}}\n'
        '"main_web-01_1700000000001_5" {ffffffff-0000-1111-2222-0123456789ab}\n'
        '"main_lb-011" {eeeeeeee-0000-1111-2222-0123456789ab}\n'
        '"other_web-01_1_1" {dddddddd-0000-1111-2222-0123456789ab}\n'
    )
    names = ["lb-01", "web-01"]
    found = asking.lookalikes(names, listed, "main_", frozenset({number}))
    assert found == ["main_web-01_1700000000001_5"]
    ours = "foobar-lab-7e5e8cf8-"
    assert asking.lookalikes(names, VIRSH, ours, frozenset()) == [f"{ours}web-01"]
    assert asking.lookalikes(names, VIRSH, ours, frozenset({number})) == []


def test_boxes_are_found_with_and_without_a_folder_for_the_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAGRANT_HOME", str(tmp_path))
    name = facts.OWN_BOX
    assert not asking.has_box(name, "libvirt")
    folder = tmp_path / "boxes" / "foobar-lab-VAGRANTSLASH-debian-13" / "0"
    (folder / "libvirt").mkdir(parents=True)
    assert asking.has_box(name, "libvirt")
    assert not asking.has_box(name, "virtualbox")
    (folder / "amd64" / "virtualbox").mkdir(parents=True)
    assert asking.has_box(name, "virtualbox")
