"""Files, links, directories, trees, and their absence."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

from provision.engine.agent.files import PathFacts, path_probe
from provision.engine.agent.protocol import Action, Probe
from provision.engine.agent.secret_content import first_certificate, setting_digests
from provision.engine.agent.trees import TreeFacts, content_time, tree_probe
from provision.engine.plan import Difference, Resource, State

TreeFile = tuple[str, bool, bytes]
"""A file of a tree: relative path, whether it is executable, content."""

TreeLink = tuple[str, str]
"""A symbolic link of a tree: relative path, target."""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_action(
    path: str, content: str, owner: str = "root", group: str = "root", mode: str = "0644"
) -> Action:
    """Write a file; ``mode`` in octal digits."""
    encoded = base64.b64encode(content.encode()).decode()
    attributes = {"owner": owner, "group": group, "mode": mode}
    return Action("write", {"path": path, "content": encoded, **attributes})


@dataclass(frozen=True)
class PathResource(Resource[PathFacts]):
    """What is at one path; ``path`` is absolute, on the machine."""

    path: str

    def probe(self) -> Probe[PathFacts]:
        return path_probe(self.path)


@dataclass(frozen=True)
class File(PathResource):
    """A file with this text.

    Args:
        mode: four octal digits.
        secret: keeps the text out of plans; only its digest leaves the machine.
        passive: no process loads it, so that a change needs no reload.
    """

    content: str = field(repr=False)
    owner: str = "root"
    group: str = "root"
    mode: str = "0644"
    secret: bool = False
    passive: bool = False

    @property
    def loads(self) -> bool:
        return not self.passive

    @property
    def name(self) -> str:
        return f"file {self.path}"

    def probe(self) -> Probe[PathFacts]:
        return path_probe(self.path, secret=self.secret)

    def secret_keys(self) -> frozenset[str]:
        return frozenset({"content"} if self.secret else ())

    def expected(self) -> State:
        return {
            "type": "file",
            "owner": f"{self.owner}:{self.group}",
            "mode": self.mode,
            "content": _digest(self.content.encode()) if self.secret else self.content,
        }

    def actual(self, result: PathFacts) -> State:
        if result.type != "file":
            return {"type": "" if result.type == "absent" else result.type}
        content = result.digest if self.secret else result.content
        if not self.secret and result.digest == _digest(self.content.encode()):
            content = self.content
        return {
            "type": "file",
            "owner": f"{result.owner}:{result.group}",
            "mode": result.mode,
            "content": content,
        }

    def differences(self, result: PathFacts) -> tuple[Difference, ...]:
        """Of a secret file, which settings and which certificate differ, when that is known."""
        differences = super().differences(result)
        if not self.secret or result.type != "file":
            return differences
        if all(difference.key != "content" for difference in differences):
            return differences
        known = secret_differences(self.content.encode(), result)
        if any(difference.key == "certificate" for difference in known):
            differences = tuple(d for d in differences if d.key != "content")
        return (*differences, *known)

    def actions(self, result: PathFacts) -> list[Action]:
        return [write_action(self.path, self.content, self.owner, self.group, self.mode)]


def secret_differences(content: bytes, result: PathFacts) -> tuple[Difference, ...]:
    """What may be said of a secret file whose content differs; no value is in it."""
    wanted = setting_digests(content)
    names = [
        key for key in {**result.settings, **wanted} if result.settings.get(key) != wanted.get(key)
    ]
    settings = [Difference(f"setting {name}", "", "", secret=True) for name in names]
    before, after = result.certificate, first_certificate(content)
    if before == after:
        return tuple(settings)
    from provision.engine.resources.certificate import certificate_difference

    return (*settings, Difference("certificate", *certificate_difference(before, after)))


@dataclass(frozen=True)
class Link(PathResource):
    """A symbolic link."""

    target: str

    @property
    def loads(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return f"link {self.path}"

    def expected(self) -> State:
        return {"target": self.target}

    def actual(self, result: PathFacts) -> State:
        if result.type == "absent":
            return {}
        return {"target": result.target if result.type == "link" else f"({result.type})"}

    def actions(self, result: PathFacts) -> list[Action]:
        return [Action("link", {"path": self.path, "target": self.target})]


@dataclass(frozen=True)
class Directory(PathResource):
    """A directory with an owner and a mode; its contents are not compared."""

    owner: str = "root"
    group: str = "root"
    mode: str = "0755"

    @property
    def name(self) -> str:
        return f"directory {self.path}"

    def expected(self) -> State:
        owner = f"{self.owner}:{self.group}"
        return {"type": "directory", "owner": owner, "mode": self.mode}

    def actual(self, result: PathFacts) -> State:
        if result.type == "absent":
            return {}
        owner = f"{result.owner}:{result.group}"
        return {"type": result.type, "owner": owner, "mode": result.mode}

    def actions(self, result: PathFacts) -> list[Action]:
        attributes = {"owner": self.owner, "group": self.group, "mode": self.mode}
        return [Action("directory", {"path": self.path, **attributes})]


class Absent(Resource[PathFacts]):
    """Something that must not exist, recognized by the one path that is removed last."""

    @property
    @abstractmethod
    def marker(self) -> str:
        """That path; on a machine that never had it, its probe is all that this costs."""

    def probe(self) -> Probe[PathFacts]:
        """Whether anything is there."""
        return path_probe(self.marker)

    def expected(self) -> State:
        return {"type": "absent"}

    def actual(self, result: PathFacts) -> State:
        return {"type": result.type}


@dataclass(frozen=True)
class Tree(Resource[TreeFacts]):
    """A copy of a folder of the controller, such as a release of the application.

    Args:
        path: absolute, on the machine.
        files: see `tree_files`.
        links: see `tree_links`.
    """

    path: str
    files: tuple[TreeFile, ...] = field(repr=False)
    owner: str = "root"
    group: str = "root"
    links: tuple[TreeLink, ...] = field(default=(), repr=False)

    @property
    def loads(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return f"tree {self.path}"

    @property
    def digest(self) -> str:
        """One digest over names, modes and contents; ``tree_digest`` computes the same."""
        lines = [f"{path} {'x' if run else '-'} {_digest(data)}" for path, run, data in self.files]
        lines += [f"{path} link {target}" for path, target in self.links]
        return _digest("\n".join(sorted(lines)).encode(errors="surrogateescape"))

    def probe(self) -> Probe[TreeFacts]:
        return tree_probe(self.path)

    def expected(self) -> State:
        return {"digest": self.digest}

    def actual(self, result: TreeFacts) -> State:
        return {"digest": result.digest}

    def actions(self, result: TreeFacts) -> list[Action]:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as archive:
            for path, run, data in self.files:
                entry = tarfile.TarInfo(path)
                entry.size = len(data)
                entry.mode = 0o755 if run else 0o644
                entry.mtime = content_time(_digest(data))
                archive.addfile(entry, io.BytesIO(data))
            for path, target in self.links:
                entry = tarfile.TarInfo(path)
                entry.type, entry.linkname = tarfile.SYMTYPE, target
                archive.addfile(entry)
        packed = base64.b64encode(buffer.getvalue()).decode()
        owner = {"owner": self.owner, "group": self.group}
        return [Action("tree", {"path": self.path, "tar": packed, **owner})]


COMPILED = ("__pycache__", ".pyc")
"""The name of a folder, and the end of a file's name, of compiled Python."""


def tree_files(folder: Path) -> tuple[TreeFile, ...]:
    """The regular files of a folder of the controller, without compiled Python, sorted."""
    return tuple(
        (path, bool((folder / path).stat().st_mode & 0o100), (folder / path).read_bytes())
        for path in _paths(folder)
        if not (folder / path).is_symlink() and (folder / path).is_file()
    )


def tree_links(folder: Path) -> tuple[TreeLink, ...]:
    """The symbolic links of a folder of the controller, sorted."""
    paths = (path for path in _paths(folder) if (folder / path).is_symlink())
    return tuple((path, str((folder / path).readlink())) for path in paths)


def _paths(folder: Path) -> list[str]:
    """Everything below a folder that is no folder itself, relative to it, sorted."""
    directory, suffix = COMPILED
    paths = []
    for top, folders, names in os.walk(folder):
        links = [name for name in folders if Path(top, name).is_symlink()]
        folders[:] = [name for name in folders if name != directory and name not in links]
        relative = Path(top).relative_to(folder)
        paths += [(relative / n).as_posix() for n in (*names, *links) if not n.endswith(suffix)]
    return sorted(paths)
