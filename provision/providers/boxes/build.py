"""Build boxes: a bootable disk from Debian packages, packed for one of Vagrant's providers.

``<cache>/boxes/<key>/`` holds the disk, is complete when it exists, and is named by a hash of its
inputs. The boxes themselves are in ``.lab/.boxes``.
"""

from __future__ import annotations

import io
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from provision.core.errors import ProviderError, UsageError, not_among
from provision.core.lab import ROOT
from provision.core.package_set import PackageSet
from provision.core.pool.store import CANONICAL
from provision.core.report import Report
from provision.providers import image_recipe
from provision.providers.boxes import ovf, pack
from provision.providers.boxes.architecture import ARCHITECTURES, Architecture, native
from provision.providers.files import add_file
from provision.providers.image_recipe import Recipe
from provision.providers.lxc import images, paths
from provision.providers.lxc.container_config import new_host_key
from provision.providers.lxc.privileged import is_installed

HERE = Path(__file__).parent
NAME = "foobar-lab/debian-13"
MINIMAL_NAME = f"{NAME}-minimal"
USER = "vagrant"
PROVIDERS = ("libvirt", "virtualbox")

OUT = ROOT / ".lab" / ".boxes"
"""The finished boxes, which can be copied to other computers."""

SCRIPTS = ("build-disk.sh", "foreign.sh", "install-packages.sh")
"""All boxes have these in common; each has its ``boot-<name>.sh`` and ``userland-<name>.sh``."""

VAGRANT_KEYS = """\
ssh-rsa AAAAB3NzaC1yc2EAAAABIwAAAQEA6NF8iallvQVp22WDkTkyrtvp9eWW6A8YVr+kz4TjGYe7gHzIw+niNltGEFHz\
D8+v1I2YJ6oXevct1YeS0o9HZyN1Q9qgCgzUFtdOKLv6IedplqoPkcmF0aYet2PkEDo3MlTBckFXPITAMzF8dJSIFo9D8Hfd\
OV0IAdx4O7PtixWKn5y2hMNG0zQPyUecp4pzC6kivAIhyfHilFR61RGL+GPXQ2MWZWFYbAGjyiYJnAmCP3NOTd0jMZEnDkbU\
vxhMmBYSdETk1rRgm+R4LOzFUGaHqHDLKLX+FIPKcF96hrucXzcWyLbIbEgE98OHlnVYCzRdK8jlqm8tehUc9c9WhQ== \
vagrant insecure public key
ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN1YdxBpNlzxDqfJyw/QKow1F+wvG9hXGoqiysfJOn5Y \
vagrant insecure public key"""
"""Vagrant's well-known keys, which public boxes accept: it replaces them at the first boot (its
documentation, "Creating a Base Box"). A minimal box accepts them instead of a key of its own."""


@dataclass(frozen=True)
class BuiltBox:
    """A finished box.

    Args:
        file: for ``vagrant box add``.
        packages: the number of Debian packages in it.
    """

    provider: str
    architecture: str
    file: Path
    packages: int


def load_recipe(architecture: str, *, minimal: bool = False) -> Recipe:
    """The recipe for a box: the packages of containers, of all boxes, and of the architecture.

    Args:
        minimal: without those of containers and of other boxes.
    """
    common = image_recipe.load_recipe()
    data = yaml.safe_load(image_recipe.RECIPE.read_text(encoding="utf-8"))
    userland = data["box-minimal"] if minimal else {*common.packages, *data["box"]}
    packages = {*userland, *data[f"box-{architecture}"]}
    return Recipe(common.suite, tuple(sorted(packages)), common.mirror, common.apt)


def disk_key(
    recipe: Recipe, architecture: str, package_set: PackageSet, *, minimal: bool = False
) -> str:
    """The name of the disk with that content."""
    names = (*SCRIPTS, f"boot-{architecture}.sh", f"userland-{_userland(minimal)}.sh")
    scripts = [(HERE / name).read_text() for name in names]
    roles = [sorted(package_set.packages), sorted(package_set.sid)]
    return images.hash_of(
        "box", architecture, pack.SIZE_MIB, images.base_key(recipe), roles, scripts
    )


def _userland(minimal: bool) -> str:
    return "busybox" if minimal else "systemd"


def _box_key(disk: str) -> str:
    """The name of the boxes with that disk, which also depends on how they are packed."""
    files = (__file__, ovf.__file__, pack.__file__)
    return images.hash_of(disk, [Path(file).read_text() for file in files])


def missing_packages(architecture: Architecture) -> list[str]:
    """Debian packages that are required to build a box and not installed."""
    required = architecture.requirements(native())
    names = [package for program, package in required.items() if not is_installed(program)]
    files = [package for path, package in architecture.files.items() if not path.exists()]
    return sorted({*names, *files})


def find_architecture(name: str) -> Architecture:
    """The architecture of that name; an empty name is this host's.

    Raises:
        UsageError: when there are no boxes for it.
    """
    name = name or native()
    if name not in ARCHITECTURES:
        raise not_among(f"no boxes for the architecture {name!r}", name, ARCHITECTURES)
    return ARCHITECTURES[name]


def build(
    provider: str,
    report: Report,
    architecture: str = "",
    package_set: PackageSet | None = None,
    *,
    minimal: bool = False,
) -> BuiltBox:
    """Build a box, unless it exists already.

    Args:
        architecture: ``amd64`` or ``arm64``; empty for this host's.
        package_set: of roles, to be in the box; ``lab.up`` then installs none of them.
        minimal: without systemd, so that it boots within minutes where a processor is emulated
            twice. No role can be configured on it.

    Raises:
        UsageError: for an unknown provider or architecture.
        ProviderError: when packages are missing, or the build fails.
    """
    if provider not in PROVIDERS:
        raise not_among(f"no boxes for {provider!r}", provider, PROVIDERS)
    target = find_architecture(architecture)
    if minimal and package_set is not None and package_set.packages:
        raise UsageError("a minimal box has no packages of roles", "omit --topologies or --minimal")
    missing = missing_packages(target)
    if missing:
        raise ProviderError(
            f"building a box needs packages that are not installed: {', '.join(missing)}",
            f"sudo apt-get install --no-install-recommends {' '.join(missing)}",
        )
    folder = _disk(target, package_set or PackageSet(), report, minimal=minimal)
    OUT.mkdir(parents=True, exist_ok=True)
    suffix = "" if target.name == "amd64" else f"-{target.name}"
    suffix += "-minimal" if minimal else ""
    box = OUT / f"debian-13{suffix}-{_box_key(folder.name)}-{provider}.box"
    if not box.exists():
        report("host", f"packing the box for {provider}")
        temporary = box.with_name(f".new.{os.getpid()}.{box.name}")
        pack.pack(provider, target.name, folder, temporary)
        temporary.replace(box)
    count = len((folder / "packages").read_text().splitlines())
    return BuiltBox(provider, target.name, box, count)


def _disk(
    architecture: Architecture, package_set: PackageSet, report: Report, *, minimal: bool
) -> Path:
    """The folder with the disk, which is built if it does not exist."""
    recipe = load_recipe(architecture.name, minimal=minimal)
    key = disk_key(recipe, architecture.name, package_set, minimal=minimal)
    folder = paths.cache() / "boxes" / key
    if (folder / "disk.qcow2").exists():
        return folder
    foreign = architecture.name != native()
    report(
        "host",
        f"building a disk with {architecture.boots} "
        + ("(emulated: many minutes)" if foreign else "(about a minute)"),
    )
    own = None if minimal else new_host_key()
    arguments = [
        recipe.suite,
        CANONICAL,
        architecture.name,
        ",".join(recipe.packages),
        ",".join(sorted({*package_set.packages, *package_set.sid})),
        USER,
        f"{own.public} {NAME}" if own else VAGRANT_KEYS,
        str(pack.SIZE_MIB),
        str(images.HERE),
        _userland(minimal),
        *images.build_settings(recipe),
    ]
    texts = {"key": own.private} if own else {}
    texts |= {path.lstrip("/"): text for path, text in images.sid_files(package_set).items()}
    script = HERE / "build-disk.sh"
    images.build(script, folder, arguments, recipe, report, stdin=_archive(texts))
    return folder


def _archive(texts: dict[str, str]) -> bytes:
    """A tar archive of some files; the private key is readable by root only."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, text in texts.items():
            add_file(tar, name, text, 0o600 if name == "key" else 0o644)
    return content.getvalue()
