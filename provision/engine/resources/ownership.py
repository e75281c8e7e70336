"""What the lab owns beyond its files: directories, units as systemd loads them, first states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from provision.engine.agent.filesystem import shown
from provision.engine.agent.owned import OwnedFacts, owned_files_probe, owned_probe
from provision.engine.agent.protocol import Action, Probe
from provision.engine.agent.unit_files import SystemdUnit, generated, systemd_unit_probe
from provision.engine.plan import Difference, Resource, State

PACKAGED = ("/usr/lib/systemd/", "/lib/systemd/", "/run/systemd/transient")
"""Unit files of packages, and transient ones."""


@dataclass(frozen=True)
class OwnedDirectory(Resource[OwnedFacts]):
    """A directory in which only declared, packaged and original files may be.

    Args:
        path: absolute, on the machine.
        patterns: of names in it that count, such as ``*.conf``.
        declared: paths, or patterns of paths, that other resources declare.
        service: whether a process reads the files, so that a change requires a reload.
        restart: whether it reads them only at start.
    """

    path: str
    patterns: tuple[str, ...] = ("*",)
    declared: tuple[str, ...] = ()
    service: bool = False
    restart: bool = False

    @property
    def loads(self) -> bool:
        return self.service

    @property
    def restarts(self) -> bool:
        return self.restart

    @property
    def name(self) -> str:
        return f"directory {self.path}"

    def probe(self) -> Probe[OwnedFacts]:
        return owned_probe(self.path, self.patterns, self.declared, directories=self.service)

    def expected(self) -> State:
        return {"files": "the lab's and Debian's"}

    def actual(self, result: OwnedFacts) -> State:
        if not result.recorded:
            return {"files": "not recorded"}
        foreign = (f"foreign {shown(path)}" for path in result.foreign)
        changed = (f"{shown(path)} {shown(how)}" for path, how in result.changed)
        differences = ", ".join([*foreign, *changed])
        return {"files": differences} if differences else self.expected()

    def actions(self, result: OwnedFacts) -> list[Action]:
        return [_restore(self.path, self.patterns, self.declared, result)]


@dataclass(frozen=True)
class OriginalFiles(Resource[OwnedFacts]):
    """Files that the provider or the image wrote once, and that the lab keeps as they were.

    Args:
        patterns: of absolute paths; ``~USER`` is a user's home.
        record: False for the resource that restores early what a later one has recorded.
    """

    patterns: tuple[str, ...]
    record: bool = False

    @property
    def name(self) -> str:
        return "original files (record)" if self.record else "original files"

    def probe(self) -> Probe[OwnedFacts]:
        return owned_files_probe(self.patterns)

    def expected(self) -> State:
        return {"recorded": "yes"} if self.record else {}

    def actual(self, result: OwnedFacts) -> State:
        return {"recorded": "yes" if result.recorded else "no"}

    def differences(self, result: OwnedFacts) -> tuple[Difference, ...]:
        if self.record:
            return super().differences(result)
        return tuple(
            Difference(shown(path), shown(how), "as created") for path, how in result.changed
        )

    def actions(self, result: OwnedFacts) -> list[Action]:
        return [_restore("files", self.patterns, (), result)]


def _restore(
    key: str, patterns: Sequence[str], declared: Sequence[str], result: OwnedFacts
) -> Action:
    args = {
        "key": key,
        "patterns": list(patterns),
        "declared": list(declared),
        "record": not result.recorded,
        "foreign": list(result.foreign),
        "changed": [path for path, _ in result.changed],
    }
    return Action("owned", args)


@dataclass(frozen=True)
class EffectiveUnit(Resource[SystemdUnit]):
    """A systemd unit without undeclared overrides: what its process runs as.

    Limits, user, command line and environment of a unit follow from its file and drop-ins. So
    those are compared, wherever systemd would read them from (`systemctl edit`, `set-property`).

    Args:
        unit: with its suffix.
        files: the declared paths of its unit file and its drop-ins.
    """

    unit: str
    files: tuple[str, ...] = ()

    @property
    def restarts(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return f"unit {self.unit}"

    def probe(self) -> Probe[SystemdUnit]:
        return systemd_unit_probe(self.unit)

    def expected(self) -> State:
        return {"overrides": "none", "loaded": "the present files"}

    def foreign(self, result: SystemdUnit) -> tuple[str, ...]:
        """Paths of undeclared overrides."""
        return tuple(
            path
            for path in result.files
            if path not in self.files and not path.startswith(PACKAGED) and not generated(path)
        )

    def _overrides(self, result: SystemdUnit) -> str:
        return ", ".join(map(shown, self.foreign(result))) or "none"

    def actual(self, result: SystemdUnit) -> State:
        if result.load in ("masked", "not-found"):
            return {**self.expected(), "overrides": self._overrides(result)}
        return {
            "overrides": self._overrides(result),
            "loaded": "older files (daemon-reload)" if result.stale else "the present files",
        }

    def actions(self, result: SystemdUnit) -> list[Action]:
        return [Action("unit-files", {"remove": list(self.foreign(result))})]
