"""What a role leaves behind where it is no longer wanted: services, folders, files of ours.

Each asks for one path, the one that is removed last: where a role never was, that is all it costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from provision.engine import Answer, Resource, State


@dataclass(frozen=True)
class NoService(Resource):
    """A systemd unit of ours that must not be there.

    Args:
        unit: its name, such as ``lab-firewall.service``.
    """

    unit: str

    kind: ClassVar[str] = "path"

    @property
    def path(self) -> str:
        """Its file."""
        return f"/etc/systemd/system/{self.unit}"

    @property
    def name(self) -> str:
        """``no service`` and the unit."""
        return f"no service {self.unit}"

    def question(self) -> dict[str, Any]:
        """The unit's file, which goes last."""
        return {"path": self.path, "secret": False}

    def expected(self) -> State:
        """Nothing there."""
        return {"type": "absent"}

    def actual(self, answer: Answer) -> State:
        """What is there."""
        return {"type": answer["type"]}

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Stop it, disable it, remove its file."""
        return [{"do": "no_service", "name": self.unit, "path": self.path}]


@dataclass(frozen=True)
class NoDirectory(Resource):
    """A folder of ours that must not be there, with all that is in it.

    Args:
        path: absolute, below a folder of the lab's own.
    """

    path: str

    kind: ClassVar[str] = "path"

    @property
    def name(self) -> str:
        """``no directory`` and its path."""
        return f"no directory {self.path}"

    def question(self) -> dict[str, Any]:
        """Its path."""
        return {"path": self.path, "secret": False}

    def expected(self) -> State:
        """Nothing there."""
        return {"type": "absent"}

    def actual(self, answer: Answer) -> State:
        """What is there."""
        return {"type": answer["type"]}

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Remove it."""
        return [{"do": "no_directory", "path": self.path}]


@dataclass(frozen=True)
class NoFile(Resource):
    """A file of ours that must not be there.

    Args:
        path: absolute.
        then: a program to run once it is removed, such as a reload.
    """

    path: str
    then: tuple[str, ...] = ()

    kind: ClassVar[str] = "path"

    @property
    def name(self) -> str:
        """``no file`` and its path."""
        return f"no file {self.path}"

    def question(self) -> dict[str, Any]:
        """Its path."""
        return {"path": self.path, "secret": False}

    def expected(self) -> State:
        """Nothing there."""
        return {"type": "absent"}

    def actual(self, answer: Answer) -> State:
        """What is there."""
        return {"type": answer["type"]}

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Remove it, then run the program."""
        actions: list[dict[str, Any]] = [{"do": "remove", "path": self.path}]
        if self.then:
            actions.append({"do": "command", "argv": list(self.then)})
        return actions
