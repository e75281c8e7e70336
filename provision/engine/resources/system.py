"""Packages and their sources, systemd units, system users."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from provision.engine.agent.files import PathFacts, path_probe
from provision.engine.agent.packages import (
    HeldFacts,
    PackageVersions,
    held_probe,
    packages_probe,
)
from provision.engine.agent.protocol import Action, Probe
from provision.engine.agent.services import (
    NO_LOGIN,
    ServiceState,
    UserFacts,
    service_probe,
    user_probe,
)
from provision.engine.plan import Resource, State


@dataclass(frozen=True)
class Packages(Resource[PackageVersions]):
    """Debian packages that must be installed, complete and with their own configuration files.

    Args:
        configured: paths that the lab writes, which differ from what packages bring.
        conffiles: whether other configuration files must be the packages', too.
    """

    names: tuple[str, ...]
    configured: tuple[str, ...] = ()
    conffiles: bool = True

    @property
    def name(self) -> str:
        """``packages``: all of a machine are one resource, installed in one transaction."""
        return "packages"

    def package_of(self, key: str) -> str:
        """Keys are packages."""
        return key

    def probe(self) -> Probe[PackageVersions]:
        return packages_probe(self.names, self.configured, conffiles=self.conffiles)

    def expected(self) -> State:
        return dict.fromkeys(self.names, "installed")

    def actual(self, result: PackageVersions) -> State:
        return {
            name: ", ".join(["installed", *self._damage(result, name)])
            for name in self.names
            if result.versions[name]
        }

    def _damage(self, result: PackageVersions, name: str) -> list[str]:
        return [text for package in result.damaged.get(name, {}).values() for text in package][:3]

    def actions(self, result: PackageVersions) -> list[Action]:
        missing = [name for name in self.names if not result.versions[name]]
        damaged = {package for damage in result.damaged.values() for package in damage}
        args = {
            "names": missing,
            "reinstall": sorted(damaged),
            "configured": list(self.configured),
            "conffiles": self.conffiles,
        }
        return [Action("packages", args)]


@dataclass(frozen=True)
class HeldPackages(Resource[HeldFacts]):
    """Packages that apt neither removes nor replaces for another one (apt-mark(8), hold)."""

    names: tuple[str, ...]

    @property
    def name(self) -> str:
        return "held packages"

    def probe(self) -> Probe[HeldFacts]:
        return held_probe(self.names)

    def expected(self) -> State:
        return dict.fromkeys(self.names, "held")

    def actual(self, result: HeldFacts) -> State:
        return {name: "held" if name in result.held else "not held" for name in self.names}

    def actions(self, result: HeldFacts) -> list[Action]:
        return [Action("hold-packages", {"names": list(self.names)})]


@dataclass(frozen=True)
class SidSource(Resource[PathFacts]):
    """Debian's sid as a source for a few packages by name, pinned away for all others.

    Oracle's MySQL is in Debian's archive only there. The mirror is the one that the machine's own
    apt configuration names.

    Args:
        sources: the text of the source list, with ``@MIRROR@`` for the archive's address.
    """

    sources: str

    path: ClassVar[str] = "/etc/apt/sources.list.d/lab-sid.list"

    @property
    def name(self) -> str:
        return "apt source sid"

    def probe(self) -> Probe[PathFacts]:
        return path_probe(self.path)

    def expected(self) -> State:
        return {"source": "present"}

    def actual(self, result: PathFacts) -> State:
        """Present when the list is the lab's, with any mirror."""
        pattern = re.escape(self.sources).replace("@MIRROR@", r"\S+")
        present = re.fullmatch(pattern, result.content) is not None
        return {"source": "present" if present else result.type}

    def actions(self, result: PathFacts) -> list[Action]:
        return [Action("sid-source", {"path": self.path, "list": self.sources})]


@dataclass(frozen=True)
class Service(Resource[ServiceState]):
    """A systemd unit that is enabled and active, or disabled and inactive.

    Args:
        unit: its name with its suffix.
        running: False for a unit that must be stopped and disabled.
        starts: True when this resource starts it; False when the activation of its `Unit` does.
    """

    unit: str
    running: bool = True
    starts: bool = False

    @property
    def name(self) -> str:
        return f"service {self.unit}"

    def probe(self) -> Probe[ServiceState]:
        return service_probe(self.unit)

    def expected(self) -> State:
        if self.running:
            return {"enabled": "enabled", "state": "active"}
        return {"enabled": "disabled", "state": "inactive"}

    def actual(self, result: ServiceState) -> State:
        """What systemd reports; a unit that does not exist counts as disabled."""
        enabled, state = result.enabled or "not installed", result.active
        if not self.running and enabled in ("not installed", "masked"):
            enabled = "disabled"
        if self.running and enabled in ("static", "alias", "indirect"):
            enabled = "enabled"
        if state == "reloading":
            state = "active"
        if self.running and result.suspended:
            state = f"suspended: {result.suspended}"
        return {"enabled": enabled, "state": state}

    def actions(self, result: ServiceState) -> list[Action]:
        order = "stop" if not self.running else "start" if self.starts else ""
        if self.running and result.suspended:
            order = "resume"
        args = {"name": self.unit, "enabled": self.running, "run": order}
        return [Action("service", args)]


@dataclass(frozen=True)
class User(Resource[UserFacts]):
    """A system user without a login."""

    user: str
    home: str

    @property
    def name(self) -> str:
        return f"user {self.user}"

    def probe(self) -> Probe[UserFacts]:
        return user_probe(self.user)

    def expected(self) -> State:
        return {"home": self.home, "shell": NO_LOGIN}

    def actual(self, result: UserFacts) -> State:
        return {"home": result.home, "shell": result.shell}

    def actions(self, result: UserFacts) -> list[Action]:
        return [Action("user", {"name": self.user, "home": self.home})]
