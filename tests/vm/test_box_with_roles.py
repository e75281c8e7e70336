"""A box with the packages of roles: they are installed, and nothing of them runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.core.lab import ROOT
from provision.core.package_set import PackageSet
from provision.operations import offline
from provision.providers.boxes import build
from provision.setup import choice
from tests.vm.booting import free_port, output_over_ssh, unpack

pytestmark = [pytest.mark.vm, pytest.mark.timeout(3600)]

SERVICES = ("haproxy", "nginx", "mysql", "dnsmasq")


@pytest.fixture(scope="module")
def packages() -> PackageSet:
    return offline.union(["distributed"], ROOT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, packages: PackageSet) -> Path:
    """The unpacked box for libvirt, built unless it exists."""
    built = build.build("libvirt", lambda _machine, message: print(message), "amd64", packages)
    print(f"{built.file.stat().st_size / 2**20:.0f} MiB")
    folder = tmp_path_factory.mktemp("roles")
    unpack(built.file, folder)
    return folder


def test_the_packages_of_the_roles_are_installed_and_their_services_wait_for_lab_up(
    folder: Path, packages: PackageSet, tmp_path: Path
) -> None:
    port, console = free_port(), tmp_path / "console"
    cpu = ["-accel", "kvm", "-cpu", "host"] if choice.kvm_works() else ["-cpu", "qemu64"]
    drive = f"file={folder}/box.img,format=qcow2,snapshot=on,if=none,id=disk"
    qemu = [
        "qemu-system-x86_64", "-M", "pc", *cpu, "-m", "1024", "-display", "none",
        "-drive", drive, "-device", "virtio-blk-pci,drive=disk",
        "-netdev", f"user,id=nat,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22",
        "-device", "virtio-net-pci,netdev=nat", "-serial", f"file:{console}",
    ]  # fmt: skip
    shown = "${Package} ${db:Status-Status}\\n"
    names = [*packages.packages, *packages.sid]
    command = "; ".join(
        [
            f"dpkg-query --show --showformat='{shown}' {' '.join(names)}",
            f"systemctl is-active {' '.join(SERVICES)} || true",
            f"systemctl is-enabled {' '.join(SERVICES)} || true",
            "sudo -n ls /var/lib/mysql/auto.cnf /usr/sbin/policy-rc.d 2>&1 || true",
            "cat /etc/apt/sources.list.d/*",
        ]
    )
    output = output_over_ssh(qemu, port, folder / "key", console, command, 300)
    assert set(output[: len(names)]) == {f"{name} installed" for name in names}
    rest = output[len(names) :]
    assert rest[: len(SERVICES)] == ["inactive"] * len(SERVICES)
    assert rest[len(SERVICES) : 2 * len(SERVICES)] == ["disabled"] * len(SERVICES)
    left = "\n".join(rest[2 * len(SERVICES) :])
    assert left.count("No such file or directory") == 2
    assert "sid main" in left
    assert "127.0.0.1" not in left  # the pool's address
