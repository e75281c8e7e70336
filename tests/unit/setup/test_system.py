"""The operating system is recognized from what it says of itself."""

from __future__ import annotations

import platform
import sys
from types import SimpleNamespace

import pytest

from provision.setup import host_os, system
from provision.setup.system import linux, macos, windows
from tests.unit.setup import samples


@pytest.mark.parametrize(
    ("os_release", "family", "version", "codename"),
    [
        (samples.DEBIAN_12, "debian", "12", "bookworm"),
        (samples.DEBIAN_13, "debian", "13", "trixie"),
        (samples.UBUNTU_24, "ubuntu", "24.04", "noble"),
        (samples.MINT, "ubuntu", "22", "wilma"),
        (samples.FEDORA_41, "fedora", "41", ""),
        (samples.ROCKY_9, "fedora", "9.4", ""),
        (samples.ARCH, "", "", ""),
        ("", "", "", ""),
        ("# a comment\nNAME='unbalanced\nID=debian\n", "debian", "", ""),
    ],
)
def test_a_distribution_and_those_derived_from_it(
    os_release: str, family: str, version: str, codename: str
) -> None:
    found = linux(os_release, "x86_64")
    assert (found.kind, found.family, found.version, found.codename) == (
        "Linux",
        family,
        version,
        codename,
    )
    assert found.name


@pytest.mark.parametrize(
    ("machine", "arch"),
    [("AMD64", "x86_64"), ("x86_64", "x86_64"), ("aarch64", "arm64"), ("riscv64", "riscv64")],
)
def test_an_architecture_has_one_name(machine: str, arch: str) -> None:
    assert linux(samples.DEBIAN_13, machine).arch == arch


def test_apple_silicon_is_recognized_also_by_a_python_for_intel() -> None:
    assert macos("15.1", "arm64").name == "macOS 15.1 (Apple silicon)"
    assert macos("15.1", "x86_64", translated=True) == macos("15.1", "arm64")
    assert not macos("13.7", "x86_64").arm64


def test_windows_is_told_apart_by_its_build_and_its_real_processor() -> None:
    assert windows(19045, "AMD64", {}).name == "Windows 10 (build 19045)"
    assert windows(22000, "AMD64", {}).version == "11"
    assert windows(26100, "x86", {"PROCESSOR_ARCHITEW6432": "ARM64"}).arm64


def test_this_computer_is_asked_in_the_way_of_its_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(host_os, "read_text", lambda path: samples.UBUNTU_24)
    monkeypatch.setattr(sys, "platform", "linux")
    assert system.detect() == samples.SYSTEMS["Ubuntu 24.04"]
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "mac_ver", lambda: ("15.1", ("", "", ""), ""))
    monkeypatch.setattr(host_os, "output_of", lambda argv: "1\n")
    assert system.detect() == samples.SYSTEMS["Apple silicon"]
    monkeypatch.setattr(sys, "platform", "win32")
    build = SimpleNamespace(build=26100)
    monkeypatch.setattr(sys, "getwindowsversion", lambda: build, raising=False)
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")
    assert system.detect() == samples.SYSTEMS["Windows 11"]
