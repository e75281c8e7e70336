"""Pack a disk as a box for a provider of Vagrant (its documentation, "Box File Format")."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

from provision.providers.boxes import ovf
from provision.providers.files import add_file
from provision.providers.lxc.privileged import run

SIZE_MIB = 10240
"""Of the disk; it is stored compressed."""

VAGRANTFILE = """\
Vagrant.configure("2") do |config|
{settings}  config.vm.base_mac = "080027000001"
end
"""

KEY = """\
  # The box has its own ed25519 key pair: Vagrant before 2.4 has only an RSA key and signs with
  # SHA-1, which sshd in Debian 13 refuses. lab.up authorizes the lab's own key in addition.
  config.ssh.private_key_path = File.expand_path("key", __dir__)
"""

EMULATED = """\
  # On an emulated processor, what VirtualBox intercepts takes long: accesses to the time stamp
  # counter, and to the registers of the disk controller and of an E1000 adapter. The BIOS resets
  # each port of the controller.
  config.vm.provider "virtualbox" do |vm|
    vm.customize ["setextradata", :id, "VBoxInternal/TM/TSCMode", "RealTSCOffset"]
    vm.customize ["storagectl", :id, "--name", "SATA", "--portcount", "1"]
    vm.customize ["modifyvm", :id, "--large-pages", "on", "--boot1", "disk", "--boot2", "none"]
    vm.customize ["modifyvm", :id, "--nictype1", "virtio", "--nictype2", "virtio"]
  end
"""


def pack(provider: str, architecture: str, folder: Path, target: Path) -> None:
    """Write a box file.

    Args:
        folder: contains ``disk.qcow2``, and ``key`` unless the box is a minimal one, which accepts
            Vagrant's own keys.
    """
    disk, key = folder / "disk.qcow2", folder / "key"
    metadata: dict[str, object] = {"provider": provider, "architecture": architecture}
    files = {"key": key} if key.exists() else {}
    texts = {"Vagrantfile": VAGRANTFILE.format(settings=KEY if key.exists() else EMULATED)}
    temporary = target.with_suffix(".vmdk")
    try:
        if provider == "libvirt":
            metadata |= {"format": "qcow2", "virtual_size": SIZE_MIB // 1024}
            files["box.img"] = disk
        else:
            argv = ["qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized"]
            run("converting the disk for VirtualBox", [*argv, disk, temporary], root=False)
            size = temporary.stat().st_size
            texts["box.ovf"] = ovf.render_descriptor(
                "debian-13", "disk.vmdk", size, SIZE_MIB, architecture
            )
            files["disk.vmdk"] = temporary
        texts["metadata.json"] = json.dumps(metadata)
        _write_tar(target, texts, files)
    finally:
        temporary.unlink(missing_ok=True)


def _write_tar(target: Path, texts: Mapping[str, str], files: Mapping[str, Path]) -> None:
    """Write an uncompressed archive (the disk is compressed already), small files first."""
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, text in sorted(texts.items()):
            add_file(tar, name, text)
        for name, path in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = path.stat().st_size, 0o600 if name == "key" else 0o644
            with path.open("rb") as file:
                tar.addfile(info, file)
