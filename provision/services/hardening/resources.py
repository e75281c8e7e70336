"""Sshd's configuration, which must not lock out the controller, and kernel parameters."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from provision.engine.agent.files import PathFacts
from provision.engine.agent.protocol import Action, Probe
from provision.engine.plan import Resource, State
from provision.engine.resources.files import Absent, File
from provision.services.hardening.agent.sysctls import RECORD, SysctlFacts, sysctl_probe


@dataclass(frozen=True)
class SshdFile(File):
    """A part of sshd's configuration; rolled back if sshd would refuse the controller's login."""

    def actions(self, result: PathFacts) -> list[Action]:
        return [*super().actions(result), Action("check-sshd-login")]


@dataclass(frozen=True)
class Sysctls(Resource[SysctlFacts]):
    """Kernel parameters of the network.

    Args:
        values: pairs of a pattern such as ``net.ipv4.conf.*.rp_filter`` and a value.
    """

    values: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        return "kernel parameters"

    def probe(self) -> Probe[SysctlFacts]:
        return sysctl_probe(pattern for pattern, _ in self.values)

    def expected(self) -> State:
        return {"deviating": "none"}

    def actual(self, result: SysctlFacts) -> State:
        wrong = [
            f"{name} = {value}"
            for name, value in result.values.items()
            if value != self._value(name)
        ]
        return {"deviating": ", ".join(wrong) or "none"}

    def _value(self, name: str) -> str:
        return next(value for pattern, value in self.values if fnmatchcase(name, pattern))

    def actions(self, result: SysctlFacts) -> list[Action]:
        return [Action("sysctls", {"values": dict(self.values)})]


@dataclass(frozen=True)
class NoSysctls(Absent):
    """Kernel parameters as they were before the machine was hardened."""

    @property
    def name(self) -> str:
        return "no kernel parameters"

    @property
    def marker(self) -> str:
        return RECORD

    def actions(self, result: PathFacts) -> list[Action]:
        return [Action("restore-sysctls")]
