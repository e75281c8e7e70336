"""On the machine: files, links, directories and trees: how they are, and making them so.

A probe answers with plain values; understanding them is the controller's (provision/resources).
"""

from __future__ import annotations

import base64
import contextlib
import grp
import hashlib
import io
import os
import pwd
import stat
import tarfile
from typing import Any

from provision.engine.agent.core import ACTIONS, PROBES, Failed, Job, Say, run

READ_LIMIT = 256 * 1024
"""Bytes of a file that are sent back to be shown in a difference."""

LOADED = "/var/lib/foobar-lab/loaded"
"""A file a unit: the fingerprint of the configuration that its process has loaded."""


def _owner(status: os.stat_result) -> tuple[str, str]:
    try:
        user = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        user = str(status.st_uid)
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = str(status.st_gid)
    return user, group


def look(path: str, secret: bool) -> dict[str, Any]:
    """What is at ``path``: its type, owner, group, mode, digest, and text unless secret."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {"type": "absent"}
    owner, group = _owner(status)
    seen: dict[str, Any] = {
        "owner": owner,
        "group": group,
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
    }
    if stat.S_ISLNK(status.st_mode):
        return {"type": "link", "target": os.readlink(path)}
    if stat.S_ISDIR(status.st_mode):
        return seen | {"type": "directory"}
    if not stat.S_ISREG(status.st_mode):
        return seen | {"type": "special"}
    with open(path, "rb") as file:
        content = file.read()
    seen |= {"type": "file", "digest": hashlib.sha256(content).hexdigest()}
    if not secret and len(content) <= READ_LIMIT:
        seen["content"] = content.decode(errors="replace")
    return seen


def file_probe(each: list[dict[str, Any]]) -> Job:
    """Look at paths: ``path`` and ``secret``."""
    yield
    return [look(one["path"], one.get("secret", False)) for one in each]


PROBES["path"] = file_probe


class Journal:
    """What was at the paths that a unit changes, to be put back when it fails."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[str, bytes, os.stat_result | None]] = {}

    def keep(self, path: str) -> None:
        """Remember what is at ``path`` now, unless that is done already."""
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

    def put_back(self) -> list[str]:
        """Restore every path; says which."""
        for path, (what, content, status) in self._before.items():
            if what == "absent":
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            elif what == "link":
                _place_link(path, content.decode())
            elif status is not None:
                place_file(path, content, status.st_uid, status.st_gid, status.st_mode & 0o7777)
        return sorted(self._before)


def place_file(path: str, content: bytes, uid: int, gid: int, mode: int) -> None:
    """Write a file so that a reader sees the old or the new one, never half of one."""
    temporary = f"{path}.lab-new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
        file.write(content)
        os.fchown(file.fileno(), uid, gid)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _place_link(path: str, target: str) -> None:
    temporary = f"{path}.lab-new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, path)


def _ids(owner: str, group: str) -> tuple[int, int]:
    try:
        return pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise Failed(f"no such user or group on this machine: {error}") from None


def write(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Write a file: ``path``, ``content`` (base64), ``owner``, ``group``, ``mode`` (octal)."""
    path = args["path"]
    journal.keep(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    uid, gid = _ids(args["owner"], args["group"])
    place_file(path, base64.b64decode(args["content"]), uid, gid, int(args["mode"], 8))


def link(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Make ``path`` a symbolic link to ``target``, in one step."""
    journal.keep(args["path"])
    os.makedirs(os.path.dirname(args["path"]), exist_ok=True)
    _place_link(args["path"], args["target"])


def directory(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Make a directory with ``owner``, ``group`` and ``mode``."""
    os.makedirs(args["path"], exist_ok=True)
    os.chown(args["path"], *_ids(args["owner"], args["group"]))
    os.chmod(args["path"], int(args["mode"], 8))


def remove(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Remove a file or a link, when it is there."""
    journal.keep(args["path"])
    with contextlib.suppress(FileNotFoundError):
        os.unlink(args["path"])


def tree_digest(top: str) -> str:
    """One digest over the names, modes and contents of everything below ``top``."""
    lines = []
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in files:
            path = f"{folder}/{name}"
            status = os.lstat(path)
            executable = "x" if status.st_mode & 0o100 else "-"
            with open(path, "rb") as file:
                digest = hashlib.sha256(file.read()).hexdigest()
            lines.append(f"{os.path.relpath(path, top)} {executable} {digest}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def tree_probe(each: list[dict[str, Any]]) -> Job:
    """Digest whole trees: ``path``."""
    yield
    return [
        {"digest": tree_digest(one["path"]) if os.path.isdir(one["path"]) else ""} for one in each
    ]


PROBES["tree"] = tree_probe


def tree(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Unpack a tar (base64) beside its place, then move it there; an older tree moves aside."""
    path = args["path"]
    new, old = f"{path}.lab-new", f"{path}.lab-old"
    run(["rm", "-rf", new, old])
    os.makedirs(new)
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(args["tar"]))) as archive:
        archive.extractall(new, filter="data")
    run(["chown", "-R", f"{args['owner']}:{args['group']}", new])
    if os.path.isdir(path):
        os.rename(path, old)
    os.rename(new, path)
    run(["rm", "-rf", old])


def stamp_probe(each: list[dict[str, Any]]) -> Job:
    """The fingerprints that units have loaded: ``unit``."""
    yield
    answers = []
    for one in each:
        try:
            with open(f"{LOADED}/{one['unit']}") as file:
                answers.append({"fingerprint": file.read().strip()})
        except FileNotFoundError:
            answers.append({"fingerprint": ""})
    return answers


PROBES["stamp"] = stamp_probe


def stamp(unit: str, fingerprint: str) -> None:
    """Record that a unit's process has loaded this configuration."""
    os.makedirs(LOADED, exist_ok=True)
    place_file(f"{LOADED}/{unit}", fingerprint.encode() + b"\n", 0, 0, 0o644)


ACTIONS.update(write=write, link=link, directory=directory, remove=remove, tree=tree)
