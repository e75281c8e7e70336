"""Set-up from a bundle: its packages, wheels, images and boxes instead of those of the network."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from provision.setup import privileges
from provision.setup.apt import HOST_SOURCES, PackageSources
from provision.setup.bundle import install
from provision.setup.bundle.archive import BundleError
from provision.setup.console import LOG, ROOT, SetupError, say, succeeds
from provision.setup.privileges import as_root

BOX = "foobar-lab/debian-13"
VENV = "python3-venv"


def unpack(file: str) -> None:
    """Verify and unpack a bundle; LAB_BUNDLE_KEY is the key that must have signed it.

    Args:
        file: a relative path starts at the directory that the command was called from.

    Raises:
        SetupError: naming the first bad entry of a refused bundle.
    """
    path = Path(os.environ.get("LAB_FROM", ""), file).absolute()
    try:
        install.install(path, ROOT, os.environ.get("LAB_BUNDLE_KEY", ""))
    except BundleError as error:
        raise SetupError(
            f"{path} was refused: {error}; nothing was installed",
            "copy the bundle again, or compare it where it was made: invoke bundle.verify FILE",
        ) from None
    except OSError as error:
        what = f"{error.filename or path}: {error.strerror or error}"
        raise SetupError(what, "scripts/up --bundle FILE") from None


def sources(lock: str) -> PackageSources:
    """Where packages come from: the bundle that this checkout was set up from, if there is one.

    Args:
        lock: the lock file whose wheels are needed.
    """
    apt, pip = install.apt_options(ROOT), install.pip_options(ROOT, lock)
    return PackageSources(apt, pip) if apt or pip else HOST_SOURCES


def host_packages(names: Collection[str]) -> list[str]:
    """The packages of the host that are needed: with a bundle, pip comes from a wheel."""
    return [name for name in names if name != VENV or install.pip_wheel(ROOT) is None]


def unpack_images(keep: Sequence[int]) -> None:
    """Unpack the images and layers of the bundle, if they are not unpacked yet.

    Raises:
        SetupError: when that fails.
    """
    command = install.image_command(ROOT)
    if not command:
        return
    say("unpacking images and layers of machines")
    if not succeeds(as_root(command), keep=keep):
        raise SetupError(
            f"the images could not be unpacked; see {LOG}", "free disk space, then run this again"
        )
    install.images_unpacked(ROOT)


def add_boxes(keep: Sequence[int]) -> None:
    """Add the boxes of the bundle to Vagrant, if it is installed.

    Raises:
        SetupError: when Vagrant refuses one.
    """
    boxes = list(install.boxes(ROOT))
    if not boxes or not privileges.is_installed("vagrant"):
        return
    environ = {**os.environ, "VAGRANT_CHECKPOINT_DISABLE": "1", "VAGRANT_CWD": str(ROOT / ".lab")}
    for provider, file in boxes:
        say(f"adding the box for {provider} to Vagrant")
        argv = ["vagrant", "box", "add", "--force", "--provider", provider, "--name", BOX]
        if not succeeds([*argv, file], keep=keep, environ=environ):
            raise SetupError(f"Vagrant did not accept {file}; see {LOG}")
        file.unlink()
