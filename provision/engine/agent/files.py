"""Files, links and directories of a machine: collecting their state and changing them."""

from __future__ import annotations

import base64
import contextlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

from provision.engine.agent.atomic import replace_link, write_atomically
from provision.engine.agent.change_time import change_time, record_restored
from provision.engine.agent.filesystem import (
    TEXT_LIMIT,
    digest_and_start,
    is_real_directory,
    kind_of,
    read_bytes,
    read_text,
    status_of,
)
from provision.engine.agent.overwritten import Copies, digest, record_written
from provision.engine.agent.process import AgentError, Log
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, action, collector
from provision.engine.agent.secret_content import first_certificate, setting_digests

READ_LIMIT = 256 * 1024
"""Bytes of a file up to which its text is sent to the controller, for a diff."""

LOADED = "/var/lib/foobar-lab/loaded"
"""Folder with one file per unit: the fingerprint of the configuration its process has loaded."""


# --- probes --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PathFacts:
    """What is at a path.

    Args:
        type: ``absent``, or see `kind_of`.
        mode: four octal digits.
        target: of a link.
        digest: SHA-256 of a file.
        content: text of a file; empty for a secret or a large one.
        settings: of a secret file, digests of the values of its settings.
        certificate: of a secret file, the certificate in it.
    """

    type: str
    owner: str = ""
    group: str = ""
    mode: str = ""
    target: str = ""
    digest: str = ""
    content: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    certificate: str = ""


@dataclass(frozen=True)
class LoadedFacts:
    """What a unit's process has loaded.

    Args:
        fingerprint: of the configuration; empty when it is unknown.
        recorded: when, in seconds since 1970.
    """

    fingerprint: str
    recorded: float = 0.0


def path_probe(path: str, *, secret: bool = False) -> Probe[PathFacts]:
    """What is at a path; with ``secret`` a file's text stays on the machine."""
    name = f"{'secret ' if secret else ''}path {path}"
    return Probe("path", name, {"path": path, "secret": secret}, PathFacts)


def loaded_probe(unit: str) -> Probe[LoadedFacts]:
    """What a unit's process has loaded."""
    return Probe("loaded", f"loaded {unit}", {"unit": unit}, LoadedFacts)


@collector("path")
def collect_path(args: Args) -> PathFacts:
    """See `path_probe`."""
    path = args["path"]
    status = status_of(path)
    if status is None:
        return PathFacts("absent")
    kind = kind_of(status)
    if kind == "link":
        return PathFacts(kind, target=os.readlink(path))
    owner, group = _owner(status)
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    if kind != "file":
        return PathFacts(kind, owner, group, mode)
    content_digest, data = digest_and_start(path, READ_LIMIT)
    if args["secret"]:
        settings, certificate = setting_digests(data), first_certificate(data)
        return PathFacts(kind, owner, group, mode, "", content_digest, "", settings, certificate)
    text = data.decode(errors="replace")
    return PathFacts(kind, owner, group, mode, digest=content_digest, content=text)


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


@collector("loaded")
def collect_loaded(args: Args) -> LoadedFacts:
    """See `loaded_probe`."""
    path = f"{LOADED}/{args['unit']}"
    status = status_of(path)
    return LoadedFacts(read_text(path).strip(), status.st_mtime if status else 0.0)


# --- changes -------------------------------------------------------------------------------------


class RollbackError(OSError):
    """Paths that could not be restored; ``restored`` are those that were."""

    def __init__(self, restored: tuple[str, ...], problems: str) -> None:
        super().__init__(problems)
        self.restored = restored


class Journal:
    """What was at the paths that a unit changes, for its rollback; copies of changes by hand."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[str, bytes, os.stat_result | None]] = {}
        self._changed: dict[str, float] = {}
        self._written: dict[str, str] = {}
        self.copies = Copies()

    @property
    def unit_files(self) -> bool:
        """Whether systemd has to read its unit files again."""
        return any(path.startswith("/etc/systemd/system/") for path in self._before)

    def wrote(self, path: str, data: bytes) -> None:
        """Record the new content of a path, for `commit`."""
        self._written[path] = digest(data)

    def commit(self) -> None:
        """Record what the lab has written."""
        record_written(self._written)

    def keep(self, path: str) -> None:
        """Record what is at ``path``, before its first change in this unit.

        What cannot be recorded (a directory, a fifo, a large file) is moved to the copies.
        """
        if path in self._before:
            return
        status, changed = status_of(path), change_time(path)
        kind = kind_of(status) if status else "absent"
        data = b""
        if kind == "link":
            data = os.fsencode(os.readlink(path))
        elif kind == "file" and status and status.st_size <= TEXT_LIMIT:
            data = read_bytes(path)
            if self.copies.changed_by_hand(path, data):
                self.copies.keep(path)
        elif kind != "absent":
            kind, data = "moved", os.fsencode(self.copies.move(path))
        self._before[path] = (kind, data, status)
        if kind in ("file", "link"):
            self._changed[path] = changed

    def make_parents(self, path: str) -> None:
        """Create the directories above ``path``; what else is there is kept and removed."""
        missing, folder = [], os.path.dirname(path)
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for part in reversed(missing):
            if status_of(part) is not None:
                self.keep(part)
                self.copies.keep(part)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(part)
            os.mkdir(part)

    def roll_back(self) -> tuple[str, ...]:
        """Restore every recorded path, the last one first, and return them.

        Raises:
            RollbackError: for paths that cannot be restored; all others are.
        """
        restored, problems = [], []
        for path, (kind, data, status) in reversed(self._before.items()):
            try:
                self._restore(path, kind, data, status)
                restored.append(path)
            except OSError as error:
                problems.append(f"{path}: {error.strerror or error}")
        record_restored({p: t for p, t in self._changed.items() if p in restored})
        if problems:
            raise RollbackError(tuple(sorted(restored)), "; ".join(problems))
        return tuple(sorted(restored))

    def _restore(self, path: str, kind: str, data: bytes, status: os.stat_result | None) -> None:
        if kind == "file" and status is not None:
            mode = stat.S_IMODE(status.st_mode)
            if _is_file_with(path, data, (mode, status.st_uid, status.st_gid)):
                return  # the change that failed was this one
        _remove_created(path, keep=kind in ("link", "file"))
        if kind == "link":
            replace_link(path, os.fsdecode(data))
        elif kind == "moved":
            self.copies.move_back(os.fsdecode(data), path)
        elif kind == "file" and status is not None:
            write_atomically(path, data, mode, status.st_uid, status.st_gid)


def _remove_created(path: str, *, keep: bool) -> None:
    """Remove what a unit created: its directories (`Journal.make_parents`), and its files.

    Args:
        keep: leaves a file, which the old one replaces atomically.
    """
    if is_real_directory(path):
        os.rmdir(path)
    elif not keep:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


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
    data, mode = base64.b64decode(args["content"]), int(args["mode"], 8)
    uid, gid = _ids(args["owner"], args["group"])
    if _is_file_with(path, data, (mode, uid, gid)):
        return  # another unit of this plan wrote it; its process has loaded it
    journal.keep(path)
    journal.make_parents(path)
    journal.wrote(path, data)
    write_atomically(path, data, mode, uid, gid)


def _is_file_with(path: str, data: bytes, attributes: tuple[int, int, int]) -> bool:
    status = status_of(path)
    if status is None or kind_of(status) != "file" or status.st_size != len(data):
        return False
    if (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) != attributes:
        return False
    with open(path, "rb") as file:
        return file.read() == data


@action("link")
def link(args: Args, journal: Journal, log: Log) -> None:
    """Make ``path`` a symbolic link to ``target``."""
    journal.keep(args["path"])
    journal.make_parents(args["path"])
    replace_link(args["path"], args["target"])


@action("directory")
def directory(args: Args, journal: Journal, log: Log) -> None:
    """Create a directory, or change its ``owner``, ``group`` and ``mode``."""
    journal.make_parents(f"{args['path']}/.")
    os.chown(args["path"], *_ids(args["owner"], args["group"]))
    os.chmod(args["path"], int(args["mode"], 8))


@action("remove")
def remove(args: Args, journal: Journal, log: Log) -> None:
    """Remove a file or a link, if it exists."""
    journal.keep(args["path"])
    with contextlib.suppress(FileNotFoundError):
        os.unlink(args["path"])


def record_loaded(unit: str, fingerprint: str) -> None:
    """Record that a unit's process has loaded a configuration."""
    os.makedirs(LOADED, exist_ok=True)
    write_atomically(f"{LOADED}/{unit}", fingerprint.encode() + b"\n", 0o644)
