"""Download the wheels of a release's requirements.txt for its machines, which need no internet.

pip on the controller uses its own configuration: index, proxy, local pools of wheels. Machines
install from the wheels that it found, and from nothing else.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from provision.core.errors import LabError, UsageError
from provision.core.files import cannot_read, cannot_write
from provision.engine.agent.process import NOT_FOUND, run
from provision.services.app.agent.virtualenv import PythonPlatform
from provision.services.app.virtualenv import REQUIREMENTS

DOWNLOAD_SECONDS = 300.0

SIZE_LIMIT = 96 * 2**20
"""Bytes of all wheels of a release; they travel to every application server."""

OLDEST_LIBC = 5
"""manylinux_2_5 is the oldest tag that PyPI accepts (PEP 600)."""

NOT_IN_THE_INDEX = re.compile(r"No matching distribution found for ([^\s;(]+)")
OTHER_SOURCE = re.compile(
    r"\s*(-e|--editable|\.{1,2}(/|$)|/|file:|(git|hg|svn|bzr)\+|[^#]*@\s*(file:|(git|hg|svn)\+))"
)
"""Lines of requirements.txt that name sources instead of a package in an index."""


def folder(directory: Path, version: str) -> Path:
    """The folder of a release's wheels.

    Args:
        directory: the lab's.
    """
    return directory / "releases" / ".wheels" / version


def wheels(directory: Path, version: str) -> tuple[Path, ...]:
    """The wheels of a release, sorted; none for a release without requirements.txt."""
    return tuple(sorted(folder(directory, version).glob("*.whl")))


def require_packages(requirements: Path) -> None:
    """Refuse lines that name sources, which would have to be built on a machine.

    Raises:
        UsageError: for the first such line.
    """
    try:
        text = requirements.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise cannot_read(requirements, error) from None
    for number, line in enumerate(text.splitlines(), 1):
        if OTHER_SOURCE.match(line):
            raise UsageError(
                f"{REQUIREMENTS}, line {number}: {line.strip()!r} is not a package in an index",
                "copy its modules into the release, or build a wheel (pip wheel) and let the"
                " line name it as package==version; --find-links in pip's configuration names"
                " the folder of the wheel",
            )


def platform_tags(platform: PythonPlatform) -> list[str]:
    """Pip's options for a platform (PEP 600): all tags that its C library satisfies."""
    major, _, minor = platform.libc.partition(".")
    tags = [f"manylinux_{major}_{n}" for n in range(int(minor or 17), OLDEST_LIBC - 1, -1)]
    tags += ["manylinux2014", "manylinux2010", "manylinux1", "linux"]
    options = ["--python-version", platform.version, "--implementation", "cp"]
    return [*options, *(f"--platform={tag}_{platform.machine}" for tag in tags)]


def download(
    release: Path, target: Path, platform: PythonPlatform, packages: Sequence[str] = ()
) -> None:
    """Download the wheels of a release's requirements, or of single packages, to a folder.

    Args:
        release: the controller's copy of it.
        packages: add only these; pip reads conditions such as ``python_version`` for the
            controller's Python, so that the machine's may need more.

    Raises:
        LabError: when there is no wheel for a requirement; names it, with pip's output.
    """
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(target, error) from None
    if packages:
        _download(release, target, platform, list(packages))
    else:
        _download(release, target, platform, ["-r", REQUIREMENTS])
        if not list(target.glob("pip-*.whl")):
            _download(release, target, platform, ["--no-deps", "pip"])
    size = sum(path.stat().st_size for path in target.glob("*.whl"))
    if size > SIZE_LIMIT:
        raise LabError(
            f"the wheels of {REQUIREMENTS} have {size >> 20} MiB,"
            f" more than the limit of {SIZE_LIMIT >> 20} MiB",
            f"require less: the largest is {_largest(target)}",
        )


def _largest(target: Path) -> str:
    return max(target.glob("*.whl"), key=lambda path: path.stat().st_size).name


def _download(release: Path, target: Path, platform: PythonPlatform, what: list[str]) -> None:
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--only-binary=:all:"]
    options += ["--dest", str(target), *platform_tags(platform)]
    pip = [sys.executable, "-m", "pip", "download", *options, *what]
    result = run(["env", "-C", str(release), *pip], timeout=DOWNLOAD_SECONDS)
    if result.ok:
        return
    on = f"Python {platform.version} on {platform.machine}"
    if result.status == NOT_FOUND or "No module named pip" in result.output:
        raise LabError(f"{REQUIREMENTS} needs pip, which {sys.executable} lacks", "scripts/up")
    lines = [line for line in result.output.splitlines() if not line.startswith("WARNING")]
    match = NOT_IN_THE_INDEX.search(result.output)
    missing = f"no wheel of {match[1]} for {on}" if match else f"pip finds no wheels for {on}"
    raise LabError(
        f"{REQUIREMENTS}: {missing}",
        "correct the name or version; machines have no compiler, so each package needs a wheel,"
        " from the index or folder that pip config list shows",
        output="\n".join(lines),
    )


def missing_package(error: LabError) -> str:
    """The requirement that a machine's pip did not find among the wheels; empty if none."""
    match = NOT_IN_THE_INDEX.search(error.output)
    return match[1] if match else ""


def discard(directory: Path, version: str) -> None:
    """Remove a release's wheels."""
    shutil.rmtree(os.fspath(folder(directory, version)), ignore_errors=True)
