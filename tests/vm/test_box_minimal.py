"""The minimal box: BusyBox starts sshd, and Vagrant's own key opens it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from provision.providers.boxes import build, pack
from tests.vm.booting import free_port, output_over_ssh, qemu_like_virtualbox, unpack

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

GEMS = ("/usr/share/rubygems-integration", "/usr/lib/*/rubygems-integration")
KEY = "*/gems/vagrant-*/keys/vagrant"


def test_the_minimal_box_boots_on_hardware_like_that_of_virtualbox(tmp_path: Path) -> None:
    built = build.build("virtualbox", lambda _machine, text: print(text), "amd64", minimal=True)
    unpack(built.file, tmp_path)
    found = [key for folder in GEMS for key in Path("/").glob(f"{folder[1:]}/{KEY}")]
    key = tmp_path / "vagrant"
    shutil.copy(found[0], key)
    key.chmod(0o600)
    port, console = free_port(), tmp_path / "console"
    qemu = qemu_like_virtualbox(tmp_path / "disk.vmdk", port, console, "virtio-net-pci", 256)
    command = (
        "ps -o comm= 1; readlink /sys/class/net/eth0/device/driver; getent hosts $(hostname); "
        "df --output=size --block-size=M / | tail -n 1; sudo -n id -u; "
        "sudo -n python3 -c 'print(6 * 7)'; ls -d /run/systemd 2>&1"
    )
    try:
        lines = output_over_ssh(qemu, port, key, console, f"{command}; true", 120)
    finally:
        (tmp_path / "disk.vmdk").unlink()
    process, driver, own, size, user, answer, systemd = lines
    assert process == "init"
    assert driver.endswith("/drivers/virtio_net")
    assert own.split() == ["127.0.1.1", "debian"]
    assert int(size.strip(" M")) > 0.9 * pack.SIZE_MIB
    assert (user, answer) == ("0", "42")
    assert "No such file" in systemd
