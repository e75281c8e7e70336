"""The state that a machine was created with, as a resource."""

from __future__ import annotations

from dataclasses import dataclass

from provision.engine.agent.protocol import Action, Probe
from provision.engine.plan import Difference, Resource, State
from provision.services.system.agent.machine_state import MachineState, machine_state_probe


@dataclass(frozen=True)
class CreatedState(Resource[MachineState]):
    """Host name, links, routes, kernel parameters, firewall tables and accounts, as recorded.

    Args:
        record: False for the resource that restores early what a later one has recorded.
    """

    record: bool = False

    @property
    def name(self) -> str:
        return "machine state (record)" if self.record else "machine state"

    def probe(self) -> Probe[MachineState]:
        return machine_state_probe()

    def expected(self) -> State:
        return {"recorded": "yes"} if self.record else {}

    def actual(self, result: MachineState) -> State:
        return {"recorded": "yes" if result.recorded else "no"}

    def differences(self, result: MachineState) -> tuple[Difference, ...]:
        if self.record:
            return super().differences(result)
        return tuple(
            Difference(name, result.present.get(name) or "(none)", value or "(none)")
            for name, value in result.original.items()
        )

    def service_of(self, key: str) -> str:
        network = ("mtu ", "qdisc ", "rout", "table ", "sysctl net.")
        return "network" if key.startswith(network) else ""

    def package_of(self, key: str) -> str:
        """Debian's packages of services name their account after themselves."""
        return key.removeprefix("account ") if key.startswith("account ") else ""

    def actions(self, result: MachineState) -> list[Action]:
        restore = {} if self.record else dict(result.original)
        return [Action("machine-state", {"restore": restore, "record": self.record})]
