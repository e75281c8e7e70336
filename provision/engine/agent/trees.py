"""Trees of a machine, such as a release: one digest for their content, and replacing them."""

from __future__ import annotations

import base64
import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from provision.engine.agent.files import Journal
from provision.engine.agent.filesystem import (
    digest_and_start,
    is_real_directory,
    kind_of,
    read_bytes,
    status_of,
    walk,
)
from provision.engine.agent.overwritten import digest
from provision.engine.agent.process import AgentError, Log, must
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, action, collector

FILE_LIMIT = 64 * 1024 * 1024
"""Bytes; a larger file in a tree is not read: no release has one."""


NEW, OLD = ".lab-new", ".lab-old"
"""Ends of the names of a folder that is not complete yet, and of one that is being replaced."""

TIMES_FROM = 946_684_800
"""2000-01-01, in seconds since 1970; see `content_time`."""


def content_time(content_digest: str) -> int:
    """The modification time of a file with this SHA-256, between 2000 and 2008.

    Nginx makes ETags of time and size (nginx.org, "etag"): so the same content has the same ETag on
    every server, and other content of the same size has another one.
    """
    return TIMES_FROM + int(content_digest[:7], 16)


DIRECTORY_MODE = 0o755
FILE_MODES = (0o644, 0o755)
"""Permissions in a tree: everybody reads it, as the servers' own users do, and its owner writes."""


@dataclass(frozen=True)
class TreeFacts:
    """Digest of a folder (see `tree_digest`); empty when there is none."""

    digest: str


def tree_probe(path: str) -> Probe[TreeFacts]:
    """The digest of a folder."""
    return Probe("tree", f"tree {path}", {"path": path}, TreeFacts)


@collector("tree")
def collect_tree(args: Args) -> TreeFacts:
    """See `tree_probe`."""
    return TreeFacts(tree_digest(args["path"]) if is_real_directory(args["path"]) else "")


def tree_digest(top: str) -> str:
    """One digest over the names, modes and contents of everything below ``top``.

    A file with another modification time than `content_time`, or with other permissions than
    0644 or 0755, counts as changed. Links count with their target; fifos, sockets and devices with
    their type; directories only with other permissions than 0755.
    """
    lines = []
    try:
        for folder, mode in _directories(top):
            if mode != DIRECTORY_MODE:
                lines.append(f"{os.path.relpath(folder, top)} directory {mode:04o}")
        for path, status in walk(top):
            kind = kind_of(status)
            what = kind
            if kind == "file":
                what = _description(path, status)
            elif kind == "link":
                what = f"link {_target(path)}"
            lines.append(f"{os.path.relpath(path, top)} {what}")
    except AgentError as error:  # a tree of this size is no release
        return str(error)
    return digest("\n".join(sorted(lines)).encode(errors="surrogateescape"))


def _directories(top: str) -> Iterator[tuple[str, int]]:
    """A folder, all folders below it, and their permissions; none of compiled Python."""
    for folder, folders, _ in os.walk(top):
        folders[:] = [name for name in folders if name != "__pycache__"]
        status = status_of(folder)
        if status is not None:
            yield folder, stat.S_IMODE(status.st_mode)


def _description(path: str, status: os.stat_result) -> str:
    executable = "x" if status.st_mode & 0o100 else "-"
    content = _content_digest(path, status)
    is_digest = len(content) == 64
    touched = is_digest and int(status.st_mtime) != content_time(content)
    mode = stat.S_IMODE(status.st_mode)
    shown = "" if mode in FILE_MODES else f" {mode:04o}"
    return f"{executable} {content}{' touched' if touched else ''}{shown}"


def _content_digest(path: str, status: os.stat_result) -> str:
    if status.st_size > FILE_LIMIT:
        return f"{status.st_size} bytes"
    try:
        return digest_and_start(path, 0)[0]
    except (OSError, AgentError):  # it vanished, or was replaced, meanwhile
        return "not readable"


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # it vanished, or was replaced, meanwhile
        return "not readable"


@action("tree")
def tree(args: Args, journal: Journal, log: Log) -> None:
    """Replace a folder by the contents of ``tar`` (base64); all of it belongs to ``owner``."""
    import io
    import tarfile

    path = args["path"]
    new, old = f"{path}{NEW}", f"{path}{OLD}"
    must(["rm", "-rf", "--", new, old])
    journal.make_parents(new)
    try:
        os.mkdir(new)
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(args["tar"]))) as archive:
            archive.extractall(new, filter="data")
        for folder, _ in list(_directories(new)):
            os.chmod(folder, DIRECTORY_MODE)
        must(["chown", "-R", f"{args['owner']}:{args['group']}", "--", new])
        for file, status in walk(new):
            if kind_of(status) == "file":
                journal.wrote(f"{path}{file.removeprefix(new)}", read_bytes(file))
        replace_tree(path, new, journal)
    except BaseException:
        must(["rm", "-rf", "--", new])
        raise


def replace_tree(path: str, new: str, journal: Journal) -> None:
    """Put a complete new folder in the place of another one, which stays if that fails."""
    old = f"{path}{OLD}"
    if is_real_directory(path):
        _keep_changes(path, new, journal)
        move_folder(path, old)
    elif os.path.lexists(path):
        journal.copies.move(path)
    try:
        os.rename(new, path)
    except OSError:
        if is_real_directory(old):
            move_folder(old, path)
        raise
    must(["rm", "-rf", "--", old])


def move_folder(path: str, target: str) -> None:
    """Rename a folder; copy it where a lower layer of overlayfs holds it (EXDEV, rename(2))."""
    must(["mv", "-T", "--", path, target])


@action("remove-trees")
def remove_trees(args: Args, journal: Journal, log: Log) -> None:
    """Remove folders that no process reads any more, complete or not: ``paths``."""
    names = [f"{path}{suffix}" for path in args["paths"] for suffix in ("", NEW, OLD)]
    must(["rm", "-rf", "--", *names])


def _keep_changes(old: str, new: str, journal: Journal) -> None:
    """Keep copies of the files of a tree that differ in the new one, or are not in it."""
    with contextlib.suppress(AgentError):  # of a tree that is too large, the first ones
        for path, status in walk(old):
            replacement = f"{new}{path.removeprefix(old)}"
            if kind_of(status) != "file" or _same_content(path, replacement):
                continue
            if journal.copies.changed_by_hand(path, read_bytes(path), below=old):
                journal.copies.keep(path)


def _same_content(first: str, second: str) -> bool:
    import filecmp

    return os.path.isfile(second) and filecmp.cmp(first, second, shallow=False)
