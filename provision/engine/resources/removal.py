"""Services, folders and files of the lab that a machine must not have (any more)."""

from __future__ import annotations

from dataclasses import dataclass

from provision.engine.agent.files import PathFacts
from provision.engine.agent.protocol import Action
from provision.engine.resources.files import Absent


@dataclass(frozen=True)
class NoFile(Absent):
    """A file or link that must not exist.

    Args:
        then: a program to run after its removal, such as a reload.
    """

    path: str
    then: tuple[str, ...] = ()

    @property
    def loads(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return f"no file {self.path}"

    @property
    def marker(self) -> str:
        return self.path

    def actions(self, result: PathFacts) -> list[Action]:
        actions = [Action("remove", {"path": self.path})]
        if self.then:
            actions.append(Action("command", {"argv": list(self.then)}))
        return actions


@dataclass(frozen=True)
class NoService(Absent):
    """A systemd unit of the lab that must not exist; ``unit`` with its suffix."""

    unit: str

    @property
    def name(self) -> str:
        return f"no service {self.unit}"

    @property
    def marker(self) -> str:
        return f"/etc/systemd/system/{self.unit}"

    def actions(self, result: PathFacts) -> list[Action]:
        return [Action("remove-service", {"name": self.unit, "path": self.marker})]


@dataclass(frozen=True)
class NoDirectory(Absent):
    """A folder below one of the lab's own folders that must not exist."""

    path: str

    @property
    def name(self) -> str:
        return f"no directory {self.path}"

    @property
    def marker(self) -> str:
        return self.path

    def actions(self, result: PathFacts) -> list[Action]:
        return [Action("remove-directory", {"path": self.path})]
