"""Files, links, directories and trees of a machine: collecting their state and changing them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass

from provision.engine.agent.process import AgentError, Log, must
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, action, collector

READ_LIMIT = 256 * 1024
"""Bytes of a file up to which its text is sent to the controller, for a diff."""

LOADED = "/var/lib/foobar-lab/loaded"
"""Folder with one file per unit: the fingerprint of the configuration its process has loaded."""


# --- probes --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PathFacts:
    """What is at a path.

    Args:
        type: ``absent``, ``file``, ``link``, ``directory`` or ``special``.
        mode: four octal digits.
        target: of a link.
        digest: SHA-256 of a file.
        content: text of a file; empty for a secret or a large one.
    """

    type: str
    owner: str = ""
    group: str = ""
    mode: str = ""
    target: str = ""
    digest: str = ""
    content: str = ""


@dataclass(frozen=True)
class TreeFacts:
    """Digest of a folder (see `tree_digest`); empty when there is none."""

    digest: str


@dataclass(frozen=True)
class LoadedFacts:
    """The fingerprint that a unit's process has loaded; empty when it is unknown."""

    fingerprint: str


def path_probe(path: str, *, secret: bool = False) -> Probe[PathFacts]:
    """What is at a path; with ``secret`` a file's text stays on the machine."""
    name = f"{'secret ' if secret else ''}path {path}"
    return Probe("path", name, {"path": path, "secret": secret}, PathFacts)


def tree_probe(path: str) -> Probe[TreeFacts]:
    """The digest of a folder."""
    return Probe("tree", f"tree {path}", {"path": path}, TreeFacts)


def loaded_probe(unit: str) -> Probe[LoadedFacts]:
    """What a unit's process has loaded."""
    return Probe("loaded", f"loaded {unit}", {"unit": unit}, LoadedFacts)


@collector("path")
def collect_path(args: Args) -> PathFacts:
    """See `path_probe`."""
    path = args["path"]
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return PathFacts("absent")
    if stat.S_ISLNK(status.st_mode):
        return PathFacts("link", target=os.readlink(path))
    owner, group = _owner(status)
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    if not stat.S_ISREG(status.st_mode):
        kind = "directory" if stat.S_ISDIR(status.st_mode) else "special"
        return PathFacts(kind, owner, group, mode)
    with open(path, "rb") as file:
        data = file.read()
    shown = not args["secret"] and len(data) <= READ_LIMIT
    text = data.decode(errors="replace") if shown else ""
    digest = hashlib.sha256(data).hexdigest()
    return PathFacts("file", owner, group, mode, digest=digest, content=text)


def _owner(status: os.stat_result) -> tuple[str, str]:
    import grp
    import pwd

    try:
        user = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        user = str(status.st_uid)
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = str(status.st_gid)
    return user, group


@collector("tree")
def collect_tree(args: Args) -> TreeFacts:
    """See `tree_probe`."""
    return TreeFacts(tree_digest(args["path"]) if os.path.isdir(args["path"]) else "")


def tree_digest(top: str) -> str:
    """One digest over the names, modes and contents of everything below ``top``."""
    lines = []
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in files:
            path = f"{folder}/{name}"
            executable = "x" if os.lstat(path).st_mode & 0o100 else "-"
            with open(path, "rb") as file:
                digest = hashlib.sha256(file.read()).hexdigest()
            lines.append(f"{os.path.relpath(path, top)} {executable} {digest}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


@collector("loaded")
def collect_loaded(args: Args) -> LoadedFacts:
    """See `loaded_probe`."""
    return LoadedFacts(read_text(f"{LOADED}/{args['unit']}").strip())


def read_text(path: str) -> str:
    """The text of a file; empty when there is none."""
    try:
        with open(path) as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""


# --- changes -------------------------------------------------------------------------------------


class Journal:
    """What was at the paths that a unit changes, for its rollback."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[str, bytes, os.stat_result | None]] = {}

    def keep(self, path: str) -> None:
        """Record what is at ``path``, before its first change in this unit."""
        if path in self._before:
            return
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            self._before[path] = ("absent", b"", None)
            return
        if stat.S_ISLNK(status.st_mode):
            self._before[path] = ("link", os.readlink(path).encode(), status)
        elif stat.S_ISREG(status.st_mode):
            with open(path, "rb") as file:
                self._before[path] = ("file", file.read(), status)

    def roll_back(self) -> tuple[str, ...]:
        """Restore every recorded path, and return them."""
        for path, (kind, data, status) in self._before.items():
            if kind == "absent":
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            elif kind == "link":
                _replace_link(path, data.decode())
            elif status is not None:
                mode = stat.S_IMODE(status.st_mode)
                write_atomically(path, data, mode, status.st_uid, status.st_gid)
        return tuple(sorted(self._before))


def write_atomically(path: str, data: bytes, mode: int, uid: int = 0, gid: int = 0) -> None:
    """Write a file; a reader sees the old content or the new."""
    temporary = f"{path}.lab-new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
        file.write(data)
        os.fchown(file.fileno(), uid, gid)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _replace_link(path: str, target: str) -> None:
    temporary = f"{path}.lab-new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, path)


def _ids(owner: str, group: str) -> tuple[int, int]:
    import grp
    import pwd

    try:
        return pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise AgentError(f"unknown user or group: {error}") from None


@action("write")
def write(args: Args, journal: Journal, log: Log) -> None:
    """Write a file: ``path``, ``content`` (base64), ``owner``, ``group``, ``mode`` (octal)."""
    path = args["path"]
    journal.keep(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    data, mode = base64.b64decode(args["content"]), int(args["mode"], 8)
    write_atomically(path, data, mode, *_ids(args["owner"], args["group"]))


@action("link")
def link(args: Args, journal: Journal, log: Log) -> None:
    """Make ``path`` a symbolic link to ``target``."""
    journal.keep(args["path"])
    os.makedirs(os.path.dirname(args["path"]), exist_ok=True)
    _replace_link(args["path"], args["target"])


@action("directory")
def directory(args: Args, journal: Journal, log: Log) -> None:
    """Create a directory, or change its ``owner``, ``group`` and ``mode``."""
    os.makedirs(args["path"], exist_ok=True)
    os.chown(args["path"], *_ids(args["owner"], args["group"]))
    os.chmod(args["path"], int(args["mode"], 8))


@action("remove")
def remove(args: Args, journal: Journal, log: Log) -> None:
    """Remove a file or a link, if it exists."""
    journal.keep(args["path"])
    with contextlib.suppress(FileNotFoundError):
        os.unlink(args["path"])


@action("tree")
def tree(args: Args, journal: Journal, log: Log) -> None:
    """Replace a folder by the contents of ``tar`` (base64); all of it belongs to ``owner``."""
    import io
    import tarfile

    path = args["path"]
    new, old = f"{path}.lab-new", f"{path}.lab-old"
    must(["rm", "-rf", new, old])
    os.makedirs(new)
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(args["tar"]))) as archive:
        archive.extractall(new, filter="data")
    must(["chown", "-R", f"{args['owner']}:{args['group']}", new])
    if os.path.isdir(path):
        os.rename(path, old)
    os.rename(new, path)
    must(["rm", "-rf", old])


def record_loaded(unit: str, fingerprint: str) -> None:
    """Record that a unit's process has loaded a configuration."""
    os.makedirs(LOADED, exist_ok=True)
    write_atomically(f"{LOADED}/{unit}", fingerprint.encode() + b"\n", 0o644)
