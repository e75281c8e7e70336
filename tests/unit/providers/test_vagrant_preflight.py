"""Preflight problems of a host for Vagrant, and the steps that fix them."""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from provision.core.lab import Lab, rebase
from provision.providers.base import PreflightProblem
from provision.providers.vagrant import host_facts, preflight
from provision.providers.vagrant.host_facts import VagrantHostFacts as Facts
from provision.providers.vagrant.preflight import problems
from provision.setup import virtual_machines
from provision.setup.system import System, macos, windows
from provision.setup.virtual_machines import check_versions

LINUX, MACOS = System(), macos("15.1", "x86_64")
WINDOWS = windows(22631, "AMD64", {})
APPLE_SILICON = macos("15.1", "arm64")

VIRSH = " 0a1b2c3d-0000-1111-2222-0123456789ab foobar-lab-7e5e8cf8-web-01\n"


def only(lab: Lab, facts: Facts) -> PreflightProblem:
    """The only problem."""
    result = problems(lab, facts)
    assert len(result) == 1, result
    return result[0]


@pytest.mark.parametrize("system", [LINUX, MACOS, WINDOWS, APPLE_SILICON])
def test_a_suitable_host_has_no_problems(lab: Lab, system: System) -> None:
    assert problems(lab, Facts(system)) == []
    assert problems(lab, Facts(system, virtualization=None)) == []
    assert problems(lab, Facts(provider="libvirt", virtualbox="")) == []


@pytest.mark.parametrize(
    ("system", "vagrant", "virtualbox"),
    [
        (LINUX, "apt-get", "virtualbox.org"),
        (MACOS, "brew", "brew"),
        (WINDOWS, "winget", "winget"),
    ],
)
def test_missing_programs_are_reported_with_how_to_install_them_on_that_system(
    lab: Lab, system: System, vagrant: str, virtualbox: str
) -> None:
    reported = problems(lab, Facts(system, vagrant="", virtualbox=""))
    assert [p.what for p in reported] == ["Vagrant is not installed", "VirtualBox is not installed"]
    assert vagrant in reported[0].hint
    assert virtualbox in reported[1].hint


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
def test_vagrant_must_support_the_version_of_virtualbox(
    vagrant: str, virtualbox: str, needed: str
) -> None:
    reported = list(check_versions(vagrant, virtualbox))
    assert bool(reported) == bool(needed), reported
    if reported:
        assert f"install Vagrant {needed} or newer" in reported[0].hint
        assert reported[0].fatal


def test_a_patched_vagrant_may_be_older() -> None:
    assert [p.fatal for p in check_versions("2.3.8.dev", "7.2.22")] == [True]
    assert list(check_versions("2.3.8.dev", "7.2.22", patched=True)) == []
    assert [p.fatal for p in check_versions("2.3.8.dev", "7.3.0", patched=True)] == [False]


def test_a_warning_about_the_driver_is_no_part_of_the_version() -> None:
    warning = (
        "WARNING: The character device /dev/vboxdrv does not exist.\n"
        "\t Please install the virtualbox-dkms package and the appropriate\n"
        "\t headers, most likely linux-headers-.\n\n"
    )
    version = "7.2.22_Debianr175245"
    assert virtual_machines.virtualbox_version(f"{warning}{version}\n") == version
    assert virtual_machines.virtualbox_version(f"{version}\n") == version
    assert virtual_machines.virtualbox_version(warning) == ""
    assert virtual_machines.virtualbox_version("") == ""


def test_the_driver_of_a_package_of_the_distribution_is_loaded_in_its_way(lab: Lab) -> None:
    packaged = only(lab, Facts(driver=False, virtualbox="7.2.22_Debianr175245"))
    assert packaged.hint.startswith("sudo modprobe vboxdrv; if")
    assert only(lab, Facts(driver=False)).hint.startswith("sudo /sbin/vboxconfig; with Secure")


def test_only_a_vagrant_that_is_too_old_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver_file = Path("/dev/vboxdrv")
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path == driver_file or exists(path))
    (tmp_path / "VBoxManage").write_text("#!/bin/sh\necho 7.2.22_Debianr175245\n")
    asked = tmp_path / "asked"
    for version, driver, patched in (
        ("2.3.8.dev", "1,none,state,not_created", True),
        ("2.3.8.dev", "", False),
        ("2.4.9", "1,none,state,not_created", False),
    ):
        (tmp_path / "vagrant").write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && echo "Vagrant {version}" && exit\n'
            f'[ "$VAGRANT_DEFAULT_PROVIDER" = virtualbox ] && [ -f "$VAGRANT_CWD/Vagrantfile" ]'
            f' && echo "$*" >>{asked} && echo "{driver}"\n'
        )
        for name in ("vagrant", "VBoxManage"):
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        assert virtual_machines.collect(LINUX).patched == patched
    assert asked.read_text().splitlines() == ["status --machine-readable"] * 2
    (tmp_path / "vagrant").write_text("#!/bin/sh\necho Vagrant 2.3.8.dev\n")
    monkeypatch.setattr(Path, "exists", lambda path: path != driver_file and exists(path))
    assert virtual_machines.collect(LINUX).patched, "it cannot be asked without the driver"


def test_an_untested_virtualbox_is_only_a_warning() -> None:
    assert [p.fatal for p in check_versions("2.4.9", "7.3.0")] == [False]


def test_processor_and_driver_for_virtualbox(lab: Lab) -> None:
    assert "/dev/vboxdrv" in only(lab, Facts(driver=False)).what
    off = only(lab, Facts(virtualization=False))
    assert "VT-x" in off.what
    assert "--provider lxc" in off.hint
    assert "lxc" not in only(lab, Facts(WINDOWS, virtualization=False)).hint
    hyper = only(lab, Facts(WINDOWS, hypervisor=True, virtualization=False))
    assert "bcdedit /set hypervisorlaunchtype off" in hyper.hint
    assert not hyper.fatal
    assert "arm64" in only(lab, Facts(APPLE_SILICON, virtualbox="7.1.4")).what
    assert problems(lab, Facts(APPLE_SILICON, virtualbox="7.1.6")) == []


def test_host_only_networks_must_be_where_virtualbox_allows_them(lab: Lab) -> None:
    elsewhere = replace(lab, topology=rebase(lab.topology, IPv4Network("10.1.2.0/24")))
    problem = only(elsewhere, Facts())
    assert "only in 192.168.56.0/21, not 10.1.2.0/24" in problem.what
    assert "echo '* 10.1.2.0/24' >>/etc/vbox/networks.conf" in problem.hint
    assert "networks.conf" not in only(elsewhere, Facts(WINDOWS)).hint
    ranges = host_facts.parse_ranges("# ours\n* 10.0.0.0/8 192.168.0.0/16\n* fd00::/8\n")
    assert ranges == (IPv4Network("10.0.0.0/8"), IPv4Network("192.168.0.0/16"))
    assert problems(elsewhere, Facts(ranges=ranges)) == []
    assert host_facts.parse_ranges("") == (host_facts.HOST_ONLY_RANGE,)


def test_requirements_of_libvirt(lab: Lab) -> None:
    facts = Facts(provider="libvirt", plugin=False, libvirt=False, kvm=False, own_box=True)
    reported = problems(lab, replace(facts, box=False))
    assert [p.fatal for p in reported] == [True, True, False, True]
    assert "apt-get install vagrant-libvirt" in reported[0].hint
    assert "systemctl start libvirtd" in reported[1].hint
    assert "emulated" in reported[2].what
    assert reported[3].hint == "invoke box.build"
    mac = problems(lab, Facts(MACOS, provider="libvirt"))
    assert mac == [
        PreflightProblem(
            "libvirt is available on Linux only", "VAGRANT_DEFAULT_PROVIDER=virtualbox"
        )
    ]


def test_a_network_that_is_in_use(lab: Lab) -> None:
    other = IPv4Address("192.168.56.77")
    for provider in ("virtualbox", "libvirt"):
        problem = only(lab, Facts(provider=provider, source=other))
        assert "192.168.56.0/24 is already in use: this host has 192.168.56.77" in problem.what
        assert "--network" in problem.hint
    # VirtualBox reuses a host-only adapter; libvirt cannot.
    assert problems(lab, Facts(source=lab.gateway)) == []
    assert only(lab, Facts(provider="libvirt", source=lab.gateway)).fatal
    assert problems(lab, Facts(provider="libvirt", source=lab.gateway, created=("web-01",))) == []
    assert problems(lab, Facts(source=IPv4Address("10.0.2.15"))) == []


def test_memory_and_disk(lab: Lab) -> None:
    required = sum(m.memory for m in lab.machines)
    assert problems(lab, Facts(memory_mib=required + preflight.RESERVED_MIB)) == []
    tight = only(lab, Facts(memory_mib=required))
    assert f"the machines need {required}" in tight.what
    assert not tight.fatal
    assert only(lab, Facts(memory_mib=required // 2)).fatal
    assert (
        problems(lab, Facts(memory_mib=100, created=("web-01",))) == []
    )  # they have their memory already
    disk = only(lab, Facts(free_mib=(("/home/x", 100),)))
    assert "100 MiB are free in /home/x" in disk.what
    assert "VAGRANT_HOME=" in disk.hint


def test_existing_machines(lab: Lab) -> None:
    left = only(lab, Facts(created=("lb-01",), unpinned=("lb-01",)))
    assert not left.fatal
    assert "invoke lab.destroy" in left.hint
    orphan = only(lab, Facts(orphaned=("web-09",)))
    assert "web-09" in orphan.what
    other = only(lab, Facts(unmanaged=("checkout_web-01_1_2",)))
    assert other.hint == "VBoxManage unregistervm NAME --delete"
    assert not other.fatal
    assert only(lab, Facts(provider="libvirt", unmanaged=("x",))).fatal


def test_unmanaged_machines_have_the_labs_names_and_are_not_vagrants() -> None:
    uuid = "0a1b2c3d-0000-1111-2222-0123456789ab"
    listing = (
        f'"main_lb-01_1700000000000_12345" {{{uuid}}}\n'
        '"main_web-01_1700000000001_5" {ffffffff-0000-1111-2222-0123456789ab}\n'
        '"main_lb-011" {eeeeeeee-0000-1111-2222-0123456789ab}\n'
        '"other_web-01_1_1" {dddddddd-0000-1111-2222-0123456789ab}\n'
    )
    names = ["lb-01", "web-01"]
    unmanaged = host_facts.unmanaged_machines(names, listing, "main_", {uuid})
    assert unmanaged == ["main_web-01_1700000000001_5"]
    ours = "foobar-lab-7e5e8cf8-"
    assert host_facts.unmanaged_machines(names, VIRSH, ours, set()) == [f"{ours}web-01"]
    assert host_facts.unmanaged_machines(names, VIRSH, ours, {uuid}) == []


def test_boxes_are_found_with_and_without_a_folder_for_the_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAGRANT_HOME", str(tmp_path))
    name = host_facts.OWN_BOX
    assert not host_facts.has_box(name, "libvirt")
    folder = tmp_path / "boxes" / "foobar-lab-VAGRANTSLASH-debian-13" / "0"
    (folder / "libvirt").mkdir(parents=True)
    assert host_facts.has_box(name, "libvirt")
    assert not host_facts.has_box(name, "virtualbox")
    (folder / "amd64" / "virtualbox").mkdir(parents=True)
    assert host_facts.has_box(name, "virtualbox")
