"""Files, links, directories and whole trees on a machine."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from provision.engine.plan import Answer, Resource, State


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class File(Resource):
    """A file with this text.

    Args:
        path: absolute, on the machine.
        content: its text.
        owner: user name.
        group: group name.
        mode: four octal digits.
        secret: True keeps the text out of plans, and only its digest leaves the machine.
        passive: True when no process loads it, so that a change calls for no reload.
    """

    path: str
    content: str = field(repr=False)
    owner: str = "root"
    group: str = "root"
    mode: str = "0644"
    secret: bool = False
    passive: bool = False

    kind: ClassVar[str] = "path"

    @property
    def loads(self) -> bool:
        """Whether the unit's process reads it."""
        return not self.passive

    @property
    def name(self) -> str:
        """``file`` and its path."""
        return f"file {self.path}"

    def question(self) -> dict[str, Any]:
        """Its path, and whether the text may be sent back."""
        return {"path": self.path, "secret": self.secret}

    def secret_keys(self) -> frozenset[str]:
        """The text of a secret file."""
        return frozenset({"content"} if self.secret else ())

    def _shown(self, content: str) -> str:
        return _digest(content.encode()) if self.secret else content

    def expected(self) -> State:
        """Type, owner, mode and text (for a secret, its digest)."""
        return {
            "type": "file",
            "owner": f"{self.owner}:{self.group}",
            "mode": self.mode,
            "content": self._shown(self.content),
        }

    def actual(self, answer: Answer) -> State:
        """The same of what is there."""
        if answer["type"] != "file":
            return {"type": "" if answer["type"] == "absent" else answer["type"]}
        content = answer["digest"] if self.secret else answer.get("content", "")
        if not self.secret and answer["digest"] == _digest(self.content.encode()):
            content = self.content
        return {
            "type": "file",
            "owner": f"{answer['owner']}:{answer['group']}",
            "mode": answer["mode"],
            "content": content,
        }

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Write it in one step."""
        content = base64.b64encode(self.content.encode()).decode()
        return [
            {
                "do": "write",
                "path": self.path,
                "content": content,
                "owner": self.owner,
                "group": self.group,
                "mode": self.mode,
            }
        ]


@dataclass(frozen=True)
class Link(Resource):
    """A symbolic link."""

    path: str
    target: str

    kind: ClassVar[str] = "path"

    @property
    def loads(self) -> bool:
        """The unit's process reads it."""
        return True

    @property
    def name(self) -> str:
        """``link`` and its path."""
        return f"link {self.path}"

    def question(self) -> dict[str, Any]:
        """Its path."""
        return {"path": self.path, "secret": False}

    def expected(self) -> State:
        """Where it points."""
        return {"target": self.target}

    def actual(self, answer: Answer) -> State:
        """Where it points, or what is there instead."""
        if answer["type"] == "absent":
            return {}
        return {"target": answer.get("target", f"({answer['type']})")}

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Point it there in one step."""
        return [{"do": "link", "path": self.path, "target": self.target}]


class Absent(Resource):
    """What must not be there, and is known by one path: the one that is removed last."""

    kind: ClassVar[str] = "path"

    @abstractmethod
    def place(self) -> str:
        """That path; where it never was, asking for it is all that this costs."""

    def question(self) -> dict[str, Any]:
        """The path."""
        return {"path": self.place(), "secret": False}

    def expected(self) -> State:
        """Nothing there."""
        return {"type": "absent"}

    def actual(self, answer: Answer) -> State:
        """What is there."""
        return {"type": answer["type"]}


@dataclass(frozen=True)
class Gone(Absent):
    """A file or link that must not be there."""

    path: str

    @property
    def loads(self) -> bool:
        """The unit's process reads it."""
        return True

    @property
    def name(self) -> str:
        """``no file`` and its path."""
        return f"no file {self.path}"

    def place(self) -> str:
        """Its path."""
        return self.path

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Remove it."""
        return [{"do": "remove", "path": self.path}]


@dataclass(frozen=True)
class Directory(Resource):
    """A directory with an owner and a mode; what is in it is not looked at."""

    path: str
    owner: str = "root"
    group: str = "root"
    mode: str = "0755"

    kind: ClassVar[str] = "path"

    @property
    def name(self) -> str:
        """``directory`` and its path."""
        return f"directory {self.path}"

    def question(self) -> dict[str, Any]:
        """Its path."""
        return {"path": self.path, "secret": False}

    def expected(self) -> State:
        """Type, owner and mode."""
        owner = f"{self.owner}:{self.group}"
        return {"type": "directory", "owner": owner, "mode": self.mode}

    def actual(self, answer: Answer) -> State:
        """The same of what is there."""
        if answer["type"] == "absent":
            return {}
        owner = f"{answer.get('owner', '')}:{answer.get('group', '')}"
        return {"type": answer["type"], "owner": owner, "mode": answer.get("mode", "")}

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Make it, or mend its owner and mode."""
        return [
            {
                "do": "directory",
                "path": self.path,
                "owner": self.owner,
                "group": self.group,
                "mode": self.mode,
            }
        ]


IGNORED = ("__pycache__", ".pyc")


@dataclass(frozen=True)
class Tree(Resource):
    """A copy of a folder of the controller, such as a release of the application.

    Args:
        path: where it belongs on the machine.
        files: relative path, executable, content; see ``tree_files``.
        owner: user who owns all of it.
        group: its group.
    """

    path: str
    files: tuple[tuple[str, bool, bytes], ...] = field(repr=False)
    owner: str = "root"
    group: str = "root"

    kind: ClassVar[str] = "tree"

    @property
    def loads(self) -> bool:
        """The unit's process reads it."""
        return True

    @property
    def name(self) -> str:
        """``tree`` and its path."""
        return f"tree {self.path}"

    @property
    def digest(self) -> str:
        """One digest over names, modes and contents; the machine computes the same."""
        lines = [f"{path} {'x' if run else '-'} {_digest(data)}" for path, run, data in self.files]
        return _digest("\n".join(sorted(lines)).encode())

    def question(self) -> dict[str, Any]:
        """Its path."""
        return {"path": self.path}

    def expected(self) -> State:
        """The digest of all of it."""
        return {"digest": self.digest}

    def actual(self, answer: Answer) -> State:
        """The digest of what is there."""
        return {"digest": answer["digest"]}

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Unpack it beside its place, then move it there."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as archive:
            for path, run, data in self.files:
                entry = tarfile.TarInfo(path)
                entry.size = len(data)
                entry.mode = 0o755 if run else 0o644
                archive.addfile(entry, io.BytesIO(data))
        packed = base64.b64encode(buffer.getvalue()).decode()
        return [
            {
                "do": "tree",
                "path": self.path,
                "tar": packed,
                "owner": self.owner,
                "group": self.group,
            }
        ]


def tree_files(folder: Path) -> tuple[tuple[str, bool, bytes], ...]:
    """The files of a folder of the controller, without what Python leaves behind."""
    found = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_file() and not any(part in relative for part in IGNORED):
            found.append((relative, bool(path.stat().st_mode & 0o100), path.read_bytes()))
    return tuple(found)
