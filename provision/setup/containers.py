"""What system containers need from this host, apart from a particular lab."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from provision.setup import privileges
from provision.setup.packages import CONTAINER_PROGRAMS, KEYRING
from provision.setup.problem import PreflightProblem
from provision.setup.system import System, detect

KERNEL_FEATURES = ("overlay", "bridge", "veth")

MIN_FREE_MIB = 4096
"""For the base image, two layers and three machines."""


@dataclass(frozen=True)
class ContainerFacts:
    """Facts of this host; the defaults are those of a suitable one.

    Args:
        sudo: whether ``sudo`` works without a password.
        keyring: whether Debian's archive keys are installed.
        missing_kernel_features: of `KERNEL_FEATURES`.
    """

    root: bool = True
    sudo: bool = True
    missing_programs: tuple[str, ...] = ()
    keyring: bool = True
    system: System = field(default_factory=System)
    missing_kernel_features: tuple[str, ...] = ()


def collect(system: System | None = None) -> ContainerFacts:
    """The facts of this host; only on Linux."""
    root = privileges.is_root()
    return ContainerFacts(
        system=system or detect(),
        root=root,
        sudo=root or privileges.sudo_works(),
        missing_programs=missing_programs(),
        keyring=Path(KEYRING).exists(),
        missing_kernel_features=missing_kernel_features(),
    )


def missing_programs() -> tuple[str, ...]:
    """The programs that the provider runs and this host does not have."""
    return tuple(name for name in CONTAINER_PROGRAMS if not privileges.is_installed(name))


def programs(facts: ContainerFacts) -> Iterator[PreflightProblem]:
    """Missing programs, and missing privileges."""
    missing = {name: CONTAINER_PROGRAMS[name] for name in facts.missing_programs}
    if not facts.keyring:
        missing["Debian's archive keys"] = "debian-archive-keyring"
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        yield PreflightProblem(
            f"not installed: {', '.join(missing)}",
            f"sudo apt-get install --no-install-recommends {packages}    # scripts/up does this too"
            if facts.system.family in ("debian", "ubuntu")
            else "containers are set up on Debian and Ubuntu; use --provider vagrant here",
        )
    if not facts.root and not facts.sudo:
        yield PreflightProblem(
            "creating containers needs root: you are not root, and sudo is not available without "
            "a password",
            "sudo -v    # or become root, then run the same command again",
        )


def kernel(facts: ContainerFacts) -> Iterator[PreflightProblem]:
    """Missing features of the kernel."""
    for feature in facts.missing_kernel_features:
        yield PreflightProblem(
            f"the kernel does not support {feature}", "use a Debian kernel, or --provider vagrant"
        )


def missing_kernel_features() -> tuple[str, ...]:
    """Features that are neither active, nor built in, nor available as a module."""
    tree = Path("/lib/modules") / os.uname().release
    lists = [tree / "modules.builtin", tree / "modules.dep"]
    modules = "".join(p.read_text(errors="replace") for p in lists if p.exists())
    missing = []
    for name in KERNEL_FEATURES:
        active = Path("/sys/module", name).exists()
        if name == "overlay":
            active = active or "overlay" in Path("/proc/filesystems").read_text()
        elif not modules:
            active = True  # a kernel without modules: this cannot be determined
        if not active and f"/{name}.ko" not in modules:
            missing.append(name)
    return tuple(missing)
