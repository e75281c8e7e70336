"""The box for arm64: built with emulation, and booted with Debian's UEFI firmware in QEMU."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from provision.core import apt_source
from provision.core.lab import ROOT
from provision.operations import offline
from provision.providers import image_recipe
from provision.providers.boxes import build
from provision.providers.lxc import images
from tests.vm.booting import free_port, output_over_ssh, unpack

pytestmark = [pytest.mark.vm, pytest.mark.timeout(7200)]

FIRMWARE = Path("/usr/share/qemu-efi-aarch64/QEMU_EFI.fd")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked box for libvirt, built unless it exists."""
    built = build.build("libvirt", lambda _machine, message: print(message), "arm64")
    folder = tmp_path_factory.mktemp("arm64")
    unpack(built.file, folder)
    return folder


def test_the_box_boots_with_debians_uefi_firmware(folder: Path, tmp_path: Path) -> None:
    port, console = free_port(), tmp_path / "console"
    drive = f"file={folder}/box.img,format=qcow2,snapshot=on,if=none,id=disk"
    qemu = [
        "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-accel", "tcg,thread=multi",
        "-m", "1024", "-display", "none", "-bios", str(FIRMWARE),
        "-drive", drive, "-device", "virtio-blk-pci,drive=disk",
        "-netdev", f"user,id=nat,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22",
        "-device", "virtio-net-pci,netdev=nat", "-serial", f"file:{console}",
    ]  # fmt: skip
    command = (
        "uname -m; dpkg --print-architecture; test -d /sys/firmware/efi && echo UEFI; "
        "readlink /sys/class/net/eth0/device/driver; "
        "sudo -n systemctl is-active networking ssh"
    )
    machine, debian, firmware, driver, *active = output_over_ssh(
        qemu, port, folder / "key", console, command, 600
    )
    assert (machine, debian, firmware) == ("aarch64", "arm64", "UEFI")
    assert driver.endswith("/drivers/virtio_net")
    assert active == ["active", "active"]


def test_the_packages_of_all_roles_resolve_for_arm64(tmp_path: Path) -> None:
    """With the package sources and pins of machines, and an empty system."""
    packages = offline.union(offline.listed("all", ROOT), ROOT)
    for name in ("state/lists/partial", "cache/archives/partial", "etc/preferences.d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "state" / "status").touch()
    mirror = image_recipe.mirror()
    sid = images.sid_files(packages)
    (tmp_path / "etc" / "sources.list").write_text(
        f"deb [signed-by={apt_source.KEYRING}] {mirror} trixie main\n{apt_source.sid_list(mirror)}"
    )
    pins = tmp_path / "etc" / "preferences.d" / "sid"
    pins.write_text(sid[apt_source.SID_PREFERENCES])
    settings = tmp_path / "apt.conf"
    settings.write_text(
        "\n".join(
            [
                *image_recipe.apt_settings(),
                'APT::Architecture "arm64";',
                'APT::Architectures { "arm64"; };',
                f'Dir::State "{tmp_path}/state";',
                f'Dir::State::status "{tmp_path}/state/status";',
                f'Dir::Cache "{tmp_path}/cache";',
                f'Dir::Etc "{tmp_path}/etc";',
                f'Dir::Etc::Parts "{tmp_path}/none";',
                "",
            ]
        )
    )
    words = ("--simulate", "install", "--no-install-recommends", *packages.packages, *packages.sid)
    for arguments in (("update",), words):
        result = subprocess.run(
            ["apt-get", "-q", *arguments],
            env={"APT_CONFIG": str(settings), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            text=True, capture_output=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr[-4000:]
    installed = [line for line in result.stdout.splitlines() if line.startswith("Inst ")]
    for name in (*packages.packages, *packages.sid):
        (line,) = (text for text in installed if text.split()[1] == name)
        assert "[arm64]" in line or "[all]" in line
        assert ("unstable" in line) == (name in packages.sid)
