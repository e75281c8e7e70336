"""Packages and where they come from, services, users, and programs that answer for themselves."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from provision.engine.plan import Answer, Resource, State


@dataclass(frozen=True)
class Packages(Resource):
    """Debian packages that must be installed."""

    names: tuple[str, ...]

    kind: ClassVar[str] = "package"

    @property
    def name(self) -> str:
        """``packages``: all of a machine are one resource, installed in one transaction."""
        return "packages"

    def question(self) -> dict[str, Any]:
        """Their names."""
        return {"names": list(self.names)}

    def expected(self) -> State:
        """All installed."""
        return dict.fromkeys(self.names, "installed")

    def actual(self, answer: Answer) -> State:
        """Which of them are."""
        return {name: "installed" for name in self.names if answer[name]}

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Install the missing ones."""
        return [{"do": "packages", "names": [n for n in self.names if not answer[n]]}]


@dataclass(frozen=True)
class SidSource(Resource):
    """Debian's sid as a source for a few packages by name, pinned away for all others.

    Oracle's MySQL is in Debian's archive only there. The mirror is the one that the machine's own
    apt configuration names.

    Args:
        sources: the text of the source list, with ``@MIRROR@`` for the archive's address.
    """

    sources: str

    kind: ClassVar[str] = "path"
    path: ClassVar[str] = "/etc/apt/sources.list.d/lab-sid.list"

    @property
    def name(self) -> str:
        """``apt source sid``."""
        return "apt source sid"

    def question(self) -> dict[str, Any]:
        """The source list."""
        return {"path": self.path, "secret": False}

    def expected(self) -> State:
        """Present."""
        return {"source": "present"}

    def actual(self, answer: Answer) -> State:
        """Present when the list is ours, whatever mirror it names."""
        pattern = re.escape(self.sources).replace("@MIRROR@", r"\S+")
        present = re.fullmatch(pattern, answer.get("content", "")) is not None
        return {"source": "present" if present else answer["type"]}

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Write it, with the machine's own mirror."""
        return [{"do": "sid_source", "path": self.path, "list": self.sources}]


@dataclass(frozen=True)
class Service(Resource):
    """A systemd unit that is enabled and runs (or is disabled and does not).

    Args:
        unit: its name with its suffix.
        running: False for a unit that must be stopped and disabled.
        starts: True when this resource starts it; False when the engine's activation does.
    """

    unit: str
    running: bool = True
    starts: bool = False

    kind: ClassVar[str] = "service"

    @property
    def name(self) -> str:
        """``service`` and the unit."""
        return f"service {self.unit}"

    def question(self) -> dict[str, Any]:
        """Its name."""
        return {"name": self.unit}

    def expected(self) -> State:
        """Enabled and active, or neither."""
        if self.running:
            return {"enabled": "enabled", "state": "active"}
        return {"enabled": "disabled", "state": "inactive"}

    def actual(self, answer: Answer) -> State:
        """What systemd says; a unit that does not exist is as good as disabled."""
        enabled = answer["UnitFileState"] or "not installed"
        state = answer["ActiveState"]
        if not self.running and enabled in ("not installed", "masked"):
            enabled = "disabled"
        if enabled in ("static", "alias", "indirect") and self.running:
            enabled = "enabled"
        if state == "reloading":
            state = "active"
        if state == "failed" and not self.running:
            state = "inactive"
        return {"enabled": enabled, "state": state}

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Enable (and start) or stop and disable it."""
        action: dict[str, Any] = {"do": "service", "name": self.unit, "enabled": self.running}
        if not self.running:
            action["running"] = False
        elif self.starts:
            action["start"] = True
        return [action]


@dataclass(frozen=True)
class User(Resource):
    """A system user without a login."""

    user: str
    home: str

    kind: ClassVar[str] = "user"

    @property
    def name(self) -> str:
        """``user`` and its name."""
        return f"user {self.user}"

    def question(self) -> dict[str, Any]:
        """Its name."""
        return {"name": self.user}

    def expected(self) -> State:
        """Its home, and no shell."""
        return {"home": self.home, "shell": "/usr/sbin/nologin"}

    def actual(self, answer: Answer) -> State:
        """What the password file says."""
        return {"home": answer["home"], "shell": answer["shell"]}

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Make or mend it."""
        return [{"do": "user", "name": self.user, "home": self.home}]


@dataclass(frozen=True)
class Command(Resource):
    """Something only a program can tell, and only a program can mend.

    Args:
        what: what people call it.
        ask: a read-only program.
        want: what it must print, stripped.
        mend: the program that makes it so.
        timeout: seconds that ``mend`` may take.
    """

    what: str
    ask: tuple[str, ...]
    want: str
    mend: tuple[str, ...]
    timeout: float = 60.0

    kind: ClassVar[str] = "command"

    @property
    def name(self) -> str:
        """What people call it."""
        return self.what

    def question(self) -> dict[str, Any]:
        """The program that tells."""
        return {"argv": list(self.ask)}

    def expected(self) -> State:
        """What it must print."""
        return {"answer": self.want}

    def actual(self, answer: Answer) -> State:
        """What it printed."""
        return {"answer": answer["out"].strip() or answer["err"].strip()}

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Run the program that mends it."""
        return [{"do": "command", "argv": list(self.mend), "timeout": self.timeout}]
