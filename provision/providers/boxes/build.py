"""Build boxes: a bootable disk from Debian packages, packed for one of Vagrant's providers.

``<cache>/boxes/<key>/`` holds the disk, is complete when it exists, and is named by a hash of its
inputs. The boxes themselves are in ``.lab/.boxes``.
"""

from __future__ import annotations

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
from provision.providers import image_recipe
from provision.providers.boxes import ovf
from provision.providers.files import add_file
from provision.providers.image_recipe import Recipe
from provision.providers.lxc import images, paths
from provision.providers.lxc.container_config import new_host_key
from provision.providers.lxc.privileged import is_installed, run

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
"""Required programs and their Debian packages."""

OUT = ROOT / ".lab" / ".boxes"
"""The finished boxes, which can be copied to other computers."""

GRUB = Path("/usr/lib/grub/i386-pc/boot.img")

VAGRANTFILE = """\
# The box has its own ed25519 key pair: Vagrant before 2.4 has only an RSA key and signs with SHA-1,
# which sshd in Debian 13 refuses. lab.up authorizes the lab's own key in addition.
Vagrant.configure("2") do |config|
  config.ssh.private_key_path = File.expand_path("key", __dir__)
  config.vm.base_mac = "080027000001"
end
"""


@dataclass(frozen=True)
class BuiltBox:
    """A finished box.

    Args:
        file: for ``vagrant box add``.
        packages: the number of Debian packages in it.
    """

    provider: str
    file: Path
    packages: int


def load_recipe(file: Path = image_recipe.RECIPE) -> Recipe:
    """The recipe for a box: the packages of the containers, and those of the key ``box``."""
    common = image_recipe.load_recipe(file)
    more = yaml.safe_load(file.read_text(encoding="utf-8"))["box"]
    return Recipe(common.suite, tuple(sorted({*common.packages, *more})), common.mirror, common.apt)


def disk_key(recipe: Recipe) -> str:
    """The name of the disk with that content."""
    script = (HERE / "build-disk.sh").read_text()
    return images.hash_of("box", SIZE_MIB, images.base_key(recipe), script)


def _box_key(disk: str) -> str:
    """The name of the boxes with that disk, which also depends on how they are packed."""
    return images.hash_of(disk, [Path(file).read_text() for file in (__file__, ovf.__file__)])


def missing_packages() -> list[str]:
    """Debian packages that are required to build a box and not installed."""
    names = [package for program, package in PROGRAMS.items() if not is_installed(program)]
    return sorted({*names, *([] if GRUB.exists() else ["grub-pc-bin"])})


def build(provider: str, report: Report) -> BuiltBox:
    """Build a box, unless it exists already.

    Raises:
        UsageError: for an unknown provider.
        ProviderError: when packages are missing, or the build fails.
    """
    if provider not in PROVIDERS:
        raise UsageError(f"no boxes for {provider!r}", f"choose from {', '.join(PROVIDERS)}")
    missing = missing_packages()
    if missing:
        raise ProviderError(
            f"building a box needs packages that are not installed: {', '.join(missing)}",
            f"sudo apt-get install --no-install-recommends {' '.join(missing)}",
        )
    recipe = load_recipe()
    folder = paths.cache() / "boxes" / disk_key(recipe)
    if not (folder / "disk.qcow2").exists():
        report("host", "building a disk (about a minute)")
        host_key = new_host_key()
        arguments = [
            recipe.suite,
            recipe.mirror,
            ",".join(recipe.packages),
            USER,
            f"{host_key.public} {NAME}",
            str(SIZE_MIB),
            str(images.HERE),
            *images.build_settings(recipe),
        ]
        script = HERE / "build-disk.sh"
        images.build(script, folder, arguments, recipe, report, stdin=host_key.private.encode())
    OUT.mkdir(parents=True, exist_ok=True)
    box = OUT / f"debian-13-{_box_key(folder.name)}-{provider}.box"
    if not box.exists():
        report("host", f"packing the box for {provider}")
        temporary = box.with_name(f".new.{os.getpid()}.{box.name}")
        pack(provider, folder, temporary)
        temporary.replace(box)
    return BuiltBox(provider, box, len((folder / "packages").read_text().splitlines()))


def pack(provider: str, folder: Path, target: Path) -> None:
    """Write a box file (Vagrant's documentation, "Box File Format").

    Args:
        folder: contains ``disk.qcow2`` and ``key``.
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
            run("converting the disk for VirtualBox", [*argv, disk, temporary], root=False)
            size = temporary.stat().st_size
            texts["box.ovf"] = ovf.render_descriptor("debian-13", "disk.vmdk", size, SIZE_MIB)
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
