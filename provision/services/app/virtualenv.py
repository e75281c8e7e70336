"""The virtual environment of a release that has a requirements.txt."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from provision.engine.agent.protocol import Action, Probe
from provision.engine.plan import Resource, State
from provision.services.app.agent.virtualenv import VirtualEnvironmentFacts, virtualenv_probe

REQUIREMENTS = "requirements.txt"


@dataclass(frozen=True)
class VirtualEnvironment(Resource[VirtualEnvironmentFacts]):
    """An environment with exactly these wheels to choose from.

    Args:
        path: absolute, on the machine.
        release: the folder of the release on the machine.
        requirements: the content of its requirements.txt.
        wheels: paths on the controller, sorted; pip's own is among them.
    """

    path: str
    release: str
    requirements: bytes = field(repr=False)
    wheels: tuple[Path, ...]

    @property
    def name(self) -> str:
        return f"virtual environment {self.path}"

    @property
    def digest(self) -> str:
        """One digest of what it is built from."""
        total = hashlib.sha256(self.requirements)
        for wheel in self.wheels:
            content = hashlib.sha256(wheel.read_bytes()).hexdigest()
            total.update(f"\n{wheel.name} {content}".encode())
        return total.hexdigest()

    def probe(self) -> Probe[VirtualEnvironmentFacts]:
        return virtualenv_probe(self.path)

    def expected(self) -> State:
        return {"requirements": self.digest, "files": "as installed"}

    def actual(self, result: VirtualEnvironmentFacts) -> State:
        if not result.digest:
            return {}
        files = "changed since the installation" if result.changed else "as installed"
        return {"requirements": result.digest, "files": files}

    def actions(self, result: VirtualEnvironmentFacts) -> list[Action]:
        wheels = {w.name: base64.b64encode(w.read_bytes()).decode() for w in self.wheels}
        installer = next(name for name in wheels if name.startswith("pip-"))
        args = {
            "path": self.path,
            "requirements": f"{self.release}/{REQUIREMENTS}",
            "digest": self.digest,
            "wheels": wheels,
            "installer": installer,
        }
        return [Action("virtualenv", args)]
