"""Builds boxes: a disk from Debian packages, and around it what each of Vagrant's providers wants.

``<cache>/boxes/<key>/`` holds the disk, and is complete when it exists; the key follows from all
that goes into it. The boxes themselves are in ``.lab/.boxes``.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from provision.core.errors import ProviderError, UsageError
from provision.core.lab import ROOT
from provision.core.report import Report
from provision.providers import images
from provision.providers.boxes import ovf
from provision.providers.images import Recipe
from provision.providers.lxc import image, places
from provision.providers.lxc.definition import new_host_key
from provision.providers.lxc.privileged import program, run

HERE = Path(__file__).parent
NAME = "foobar-lab/debian-13"
USER = "vagrant"
SIZE_MIB = 10240
PROVIDERS = ("libvirt", "virtualbox")
PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "sfdisk": "fdisk",
    "mke2fs": "e2fsprogs",
    "grub-mkimage": "grub-common",
    "qemu-img": "qemu-utils",
}
OUT = ROOT / ".lab" / ".boxes"
"""Where boxes are put; from there they can be carried to other computers."""

GRUB = Path("/usr/lib/grub/i386-pc/boot.img")

VAGRANTFILE = """\
# The box's own key: Vagrant before 2.4 has only an RSA key, which it signs with SHA-1, and Debian
# 13's sshd refuses that. lab.up lets the lab's own key in as well.
Vagrant.configure("2") do |config|
  config.ssh.private_key_path = File.expand_path("key", __dir__)
  config.vm.base_mac = "080027000001"
end
"""


@dataclass(frozen=True)
class Box:
    """A box that was built.

    Args:
        provider: one of `PROVIDERS`.
        file: what ``vagrant box add`` takes; it can be copied to other computers.
        packages: how many packages are in it.
    """

    provider: str
    file: Path
    packages: int


def recipe(file: Path = images.RECIPE) -> Recipe:
    """What goes into a box on this host: the containers' packages, and those of ``box:``."""
    common = images.recipe(file)
    more = yaml.safe_load(file.read_text(encoding="utf-8"))["box"]
    return Recipe(common.suite, tuple(sorted({*common.packages, *more})), common.mirror, common.apt)


def key(wanted: Recipe) -> str:
    """The name of a disk: it changes when anything that goes into it does."""
    scripts = [HERE / "build-disk.sh", Path(image.__file__).with_name("customize.sh")]
    return image.key_of("box", SIZE_MIB, image.base_key(wanted), [p.read_text() for p in scripts])


def _around(disk: str) -> str:
    """The name of the boxes with that disk: it changes with what is put around it, too."""
    return image.key_of(disk, [Path(file).read_text() for file in (__file__, ovf.__file__)])


def missing() -> list[str]:
    """Debian packages that are needed to build a box and are not installed."""
    names = [package for name, package in PROGRAMS.items() if not program(name)]
    return sorted({*names, *([] if GRUB.exists() else ["grub-pc-bin"])})


def build(provider: str, report: Report) -> Box:
    """Build a box, or take the one that is built.

    Raises:
        UsageError: for an unknown provider.
        ProviderError: when programs are missing, or it cannot be built.
    """
    if provider not in PROVIDERS:
        raise UsageError(f"no boxes for {provider!r}", f"choose from {', '.join(PROVIDERS)}")
    lacking = missing()
    if lacking:
        raise ProviderError(
            f"to build a box, this host lacks {', '.join(lacking)}",
            f"sudo apt-get install --no-install-recommends {' '.join(lacking)}",
        )
    wanted = recipe()
    store = places.cache() / "boxes"
    folder = store / key(wanted)
    if not (folder / "disk.qcow2").exists():
        report("host", "building a disk (about a minute)")
        pair = new_host_key()
        image.build(
            folder,
            HERE / "build-disk.sh",
            [
                wanted.suite,
                wanted.mirror,
                ",".join(wanted.packages),
                USER,
                f"{pair.public} {NAME}",
                str(SIZE_MIB),
                str(Path(image.__file__).with_name("customize.sh")),
                *wanted.apt,
            ],
            report,
            "the disk of a box could not be built",
            wanted,
            pair.private.encode(),
        )
    OUT.mkdir(parents=True, exist_ok=True)
    box = OUT / f"debian-13-{_around(folder.name)}-{provider}.box"
    if not box.exists():
        report("host", f"packing the box for {provider}")
        new = box.with_name(f".new.{os.getpid()}.{box.name}")
        pack(provider, folder, new)
        new.replace(box)
    return Box(provider, box, len((folder / "packages").read_text().splitlines()))


def pack(provider: str, folder: Path, target: Path) -> None:
    """Put a box together (Vagrant's documentation, "Box File Format").

    Args:
        provider: one of `PROVIDERS`.
        folder: with ``disk.qcow2`` and ``key``.
        target: the file to write.
    """
    disk = folder / "disk.qcow2"
    metadata: dict[str, object] = {"provider": provider, "architecture": "amd64"}
    files: dict[str, Path] = {"key": folder / "key"}
    texts = {"Vagrantfile": VAGRANTFILE}
    temporary = target.with_suffix(".vmdk")
    try:
        if provider == "libvirt":
            metadata |= {"format": "qcow2", "virtual_size": SIZE_MIB // 1024}
            files["box.img"] = disk
        else:
            argv = ["qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized"]
            run("making a disk for VirtualBox", [*argv, disk, temporary], root=False)
            size = temporary.stat().st_size
            texts["box.ovf"] = ovf.descriptor("debian-13", "disk.vmdk", size, SIZE_MIB)
            files["disk.vmdk"] = temporary
        texts["metadata.json"] = json.dumps(metadata)
        _tar(target, texts, files)
    finally:
        temporary.unlink(missing_ok=True)


def _tar(target: Path, texts: Mapping[str, str], files: Mapping[str, Path]) -> None:
    """Small files first; the disk is compressed in itself."""
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, text in sorted(texts.items()):
            info = tarfile.TarInfo(name)
            data = text.encode()
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
        for name, path in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = path.stat().st_size, 0o600 if name == "key" else 0o644
            with path.open("rb") as file:
                tar.addfile(info, file)
