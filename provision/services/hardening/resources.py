"""Sshd's configuration, which must not lock out the controller."""

from __future__ import annotations

from dataclasses import dataclass

from provision.engine.agent.files import PathFacts
from provision.engine.agent.protocol import Action
from provision.engine.resources.files import File


@dataclass(frozen=True)
class SshdFile(File):
    """A part of sshd's configuration; rolled back if sshd would refuse the controller's login."""

    def actions(self, result: PathFacts) -> list[Action]:
        return [*super().actions(result), Action("check-sshd-login")]
