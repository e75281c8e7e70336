"""What a role leaves behind where it is no longer wanted: services, folders, files of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from provision.engine.plan import Answer
from provision.engine.resources.files import Absent


@dataclass(frozen=True)
class NoService(Absent):
    """A systemd unit of ours that must not be there.

    Args:
        unit: its name, such as ``lab-firewall.service``.
    """

    unit: str

    @property
    def name(self) -> str:
        """``no service`` and the unit."""
        return f"no service {self.unit}"

    def place(self) -> str:
        """Its file."""
        return f"/etc/systemd/system/{self.unit}"

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Stop it, disable it, remove its file."""
        return [{"do": "no_service", "name": self.unit, "path": self.place()}]


@dataclass(frozen=True)
class NoDirectory(Absent):
    """A folder of ours that must not be there, with all that is in it.

    Args:
        path: absolute, below a folder of the lab's own.
    """

    path: str

    @property
    def name(self) -> str:
        """``no directory`` and its path."""
        return f"no directory {self.path}"

    def place(self) -> str:
        """Its path."""
        return self.path

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Remove it."""
        return [{"do": "no_directory", "path": self.path}]


@dataclass(frozen=True)
class NoFile(Absent):
    """A file of ours that must not be there.

    Args:
        path: absolute.
        then: a program to run once it is removed, such as a reload.
    """

    path: str
    then: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``no file`` and its path."""
        return f"no file {self.path}"

    def place(self) -> str:
        """Its path."""
        return self.path

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Remove it, then run the program."""
        actions: list[dict[str, Any]] = [{"do": "remove", "path": self.path}]
        if self.then:
            actions.append({"do": "command", "argv": list(self.then)})
        return actions
