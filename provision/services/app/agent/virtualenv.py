"""Virtual environments of releases: built on the machine from wheels that the controller sends."""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
from dataclasses import dataclass

from provision.engine.agent.files import Journal
from provision.engine.agent.filesystem import is_real_directory, read_text, walk
from provision.engine.agent.overwritten import digest
from provision.engine.agent.process import AgentError, Log, must, run
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, action, collector
from provision.engine.agent.trees import OLD, move_folder

MARKER = "lab-complete.json"
"""Written last into a virtual environment: what it was built from, and the state of its files."""

INSTALL_SECONDS = 300.0


@dataclass(frozen=True)
class VirtualEnvironmentFacts:
    """What a virtual environment was built from.

    Args:
        digest: of its requirements; empty when there is none, or it is not complete.
        changed: whether files in it were changed since.
    """

    digest: str = ""
    changed: bool = False


@dataclass(frozen=True)
class PythonPlatform:
    """What decides which wheels fit a machine.

    Args:
        version: of Python, such as ``3.13``.
        machine: the processor, such as ``x86_64``.
        libc: of the GNU C library, such as ``2.41``.
    """

    version: str
    machine: str
    libc: str


def virtualenv_probe(path: str) -> Probe[VirtualEnvironmentFacts]:
    """What a virtual environment was built from."""
    return Probe("virtualenv", f"virtualenv {path}", {"path": path}, VirtualEnvironmentFacts)


def platform_probe() -> Probe[PythonPlatform]:
    """Which wheels fit the machine."""
    return Probe("python-platform", "python platform", {}, PythonPlatform)


@collector("python-platform")
def collect_platform(args: Args) -> PythonPlatform:
    """See `platform_probe`."""
    libc = (os.confstr("CS_GNU_LIBC_VERSION") or "").rpartition(" ")[2]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return PythonPlatform(version, os.uname().machine, libc)


@collector("virtualenv")
def collect_virtualenv(args: Args) -> VirtualEnvironmentFacts:
    """See `virtualenv_probe`."""
    path = args["path"]
    if not is_real_directory(path):
        return VirtualEnvironmentFacts()
    try:
        recorded = json.loads(read_text(f"{path}/{MARKER}"))
        return VirtualEnvironmentFacts(
            str(recorded["digest"]), recorded["files"] != files_digest(path)
        )
    except (ValueError, KeyError, TypeError):
        return VirtualEnvironmentFacts()


def files_digest(top: str) -> str:
    """One digest over names, sizes and times of everything in a virtual environment."""
    lines = []
    try:
        for path, status in walk(top):
            if not path.endswith(f"/{MARKER}"):
                lines.append(f"{path} {status.st_mode} {status.st_size} {status.st_mtime_ns}")
    except AgentError as error:  # a very large one
        return str(error)
    return digest("\n".join(sorted(lines)).encode(errors="surrogateescape"))


@action("virtualenv")
def build(args: Args, journal: Journal, log: Log) -> None:
    """Build ``path`` for ``requirements`` (a file) from ``wheels`` (base64 by name).

    Its scripts contain its path, so it is built in place. Debian's packages, gunicorn among them,
    can be imported, too; what the requirements name is installed in any case.

    Raises:
        AgentError: with pip's output; an older environment at the path stays.
    """
    path, requirements = args["path"], args["requirements"]
    old = f"{path}{OLD}"
    must(["rm", "-rf", "--", old])
    journal.make_parents(path)
    if os.path.lexists(path):
        move_folder(path, old)
    log("installing requirements.txt")
    try:
        with tempfile.TemporaryDirectory(prefix="lab-wheels-", dir="/var/tmp") as folder:
            for name, data in args["wheels"].items():
                with open(os.path.join(folder, os.path.basename(name)), "wb") as file:
                    file.write(base64.b64decode(data))
            must(["python3", "-m", "venv", "--without-pip", "--system-site-packages", path])
            _install(path, requirements, folder, args["installer"])
        marker = {"digest": args["digest"], "files": files_digest(path)}
        with open(f"{path}/{MARKER}", "w") as file:
            json.dump(marker, file)
    except BaseException:
        must(["rm", "-rf", "--", path])
        if os.path.lexists(old):
            move_folder(old, path)
        raise
    must(["rm", "-rf", "--", old])


def _install(path: str, requirements: str, folder: str, installer: str) -> None:
    """Run pip from its own wheel; nothing is requested from an index."""
    options = ["--no-index", "--find-links", folder, "--ignore-installed", "--no-cache-dir"]
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--root-user-action=ignore"]
    pip = [f"{path}/bin/python", f"{folder}/{installer}/pip", "install", *quiet, *options]
    argv = ["env", "-C", os.path.dirname(requirements), "PIP_CONFIG_FILE=/dev/null", *pip]
    result = run([*argv, "-r", requirements], timeout=INSTALL_SECONDS)
    if not result.ok:
        raise AgentError("pip cannot install requirements.txt", result.output)
