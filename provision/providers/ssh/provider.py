"""The ssh provider: checks and records existing machines.

The machines exist before the lab, so it refuses to remove them, and to stop what it could not start
again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from provision import topology
from provision.core.endpoint import Endpoint
from provision.core.errors import LabError, ProviderError
from provision.core.lab import Lab
from provision.core.package_set import PackageSet
from provision.core.parallel import for_each
from provision.core.report import Report
from provision.core.stored_machine import StoredMachine, StoredMachines
from provision.providers.base import ROOT_COMMAND_SECONDS, PreflightProblem, Provider, RootCommand
from provision.providers.routes import (
    accepts_connections,
    is_directly_connected,
    source_address,
)
from provision.providers.ssh import record
from provision.providers.ssh.endpoints import first_hop, read_openssh_files, resolve_endpoints
from provision.providers.ssh.host_key import SSH_ERRORS, presented_key
from provision.providers.ssh.preflight import check_machine
from provision.providers.ssh.record import ExistingMachines


@dataclass
class SshProvider(Provider):
    """Existing machines.

    Args:
        inventory: the path of the inventory file; if empty, LAB_INVENTORY.
        pin: whether to pin unknown host keys as they are presented.
    """

    inventory: str = ""
    pin: bool = False
    _checked: dict[str, Endpoint] = field(default_factory=dict)

    name = "ssh"

    def preflight(self, lab: Lab) -> Sequence[PreflightProblem]:
        recorded = record.load(lab)
        endpoints, problems = resolve_endpoints(lab, self._inventory(), read_openssh_files())
        if problems:
            return problems
        endpoints = {
            name: _keep_pins(e, recorded.machines.get(name)) for name, e in endpoints.items()
        }
        hops = {first_hop(endpoint) for endpoint in endpoints.values()}
        direct = tuple(address for address in recorded.direct if address in hops)
        lost = record.lost_routes(replace(recorded, direct=direct))
        if lost:
            return [PreflightProblem(what, "bring that network up first") for what in lost]

        def check(name: str) -> tuple[Endpoint, list[PreflightProblem]]:
            return check_machine(lab.machine(name), endpoints[name], accept_keys=self.pin)

        results = for_each(endpoints, check)
        self._checked = {name: endpoint for name, (endpoint, _) in results.items()}
        return [problem for _, own in results.values() for problem in own]

    def up(
        self, lab: Lab, report: Report, preload: Mapping[str, PackageSet]
    ) -> Mapping[str, Endpoint]:
        """Record how the machines are reached; they must be running."""
        names = [m.name for m in lab.machines]
        if sorted(self._checked) != sorted(names):
            report("host", "checking the machines")
            problems = [p for p in self.preflight(lab) if p.fatal]
            if problems:
                raise ProviderError("\n".join(f"{p.what}\n  fix: {p.hint}" for p in problems))
        endpoints = {name: self._checked[name] for name in names}
        hops = {first_hop(endpoint) for endpoint in endpoints.values()}
        if not any(endpoint.jump for endpoint in endpoints.values()):
            hops.add(str(lab.front.address))
        direct = sorted(a for a in hops if is_directly_connected(a, source_address(a)))
        record.save(lab, ExistingMachines(endpoints, tuple(direct)))
        for name in names:
            report(name, "up")
        return endpoints

    def endpoints(self, lab: Lab) -> Mapping[str, Endpoint]:
        names = {m.name for m in lab.machines}
        endpoints = {n: e for n, e in record.load(lab).machines.items() if n in names}
        if not endpoints or self.network_problem(lab):
            return {}
        running = for_each(endpoints, lambda name: _is_running(endpoints[name]))
        return {name: endpoint for name, endpoint in endpoints.items() if running[name]}

    def network_problem(self, lab: Lab) -> str:
        """Over the default route, a private address may belong to a machine of another network."""
        recorded = record.load(lab)
        if not recorded.machines:
            return "its machines have not been checked yet"
        return "; ".join(record.lost_routes(recorded))

    def state(self, lab: Lab) -> Mapping[str, str]:
        """``running`` when sshd accepts connections, ``absent`` before the first ``lab.up``."""
        recorded, running = record.load(lab).machines, self.endpoints(lab)
        return {
            m.name: "running" if m.name in running else "halted" if m.name in recorded else "absent"
            for m in lab.machines
        }

    def member(self, lab: Lab) -> str:
        return ""

    def halt(self, lab: Lab, report: Report, machines: Sequence[str] = ()) -> None:
        raise _refusal("halt", "invoke lab.ssh MACHINE -- sudo systemctl poweroff")

    def kill(self, lab: Lab, machine: str) -> None:
        raise _refusal("kill", f"invoke lab.ssh {machine} -- sudo systemctl poweroff --force")

    def start(self, lab: Lab, machine: str) -> None:
        lab.machine(machine)
        if machine not in self.endpoints(lab):
            raise _refusal("start", f"switch {machine} on, then invoke lab.up")

    def root_command(
        self, lab: Lab, machine: str, argv: Sequence[str], seconds: float = ROOT_COMMAND_SECONDS
    ) -> RootCommand:
        user = (
            record.load(lab).machines[machine].user
            if machine in record.load(lab).machines
            else "root"
        )
        raise _refusal(
            "open a root shell on",
            f"log in to {machine} on its console or through its platform; check sshd, firewall, "
            f"authorized_keys and sudo -n of {user}; then invoke lab.up",
        )

    def pin_host_key(self, lab: Lab, machine: str, host_key: str) -> None:
        recorded = record.load(lab)
        endpoint = replace(recorded.machines[machine], host_key=host_key)
        record.save(lab, replace(recorded, machines={**recorded.machines, machine: endpoint}))

    def orphaned_machines(self, lab: Lab) -> Sequence[str]:
        return ()

    def leftover_machines(self, lab: Lab) -> Sequence[str]:
        return ()

    def remove(self, lab: Lab, machines: Sequence[str], report: Report) -> None:
        raise _refusal(
            f"remove ({', '.join(machines)})",
            "invoke lab.clean removes the lab from all of them; then lab.up with the new topology",
        )

    def destroy(self, lab: Lab, report: Report) -> None:
        raise _refusal("destroy", "invoke lab.clean lists what the lab installed and removes it")

    def frozen_machines(self, lab: Lab) -> Sequence[str]:
        return ()

    def thaw(self, lab: Lab, machines: Sequence[str]) -> None:
        """Nothing: this provider freezes no machine."""

    def snapshot(self, lab: Lab, name: str, report: Report) -> StoredMachines:
        raise _refusal("snapshot", "use the snapshots of the platform that they run on")

    def prepare_restore(
        self, lab: Lab, name: str, machines: Mapping[str, StoredMachine], report: Report
    ) -> None:
        raise _refusal("restore", "use the snapshots of the platform that they run on")

    def restore(
        self, lab: Lab, name: str, machines: Mapping[str, StoredMachine], report: Report
    ) -> None:
        self.prepare_restore(lab, name, machines, report)

    def delete_snapshot(self, lab: Lab, name: str, report: Report) -> bool:
        return True

    def snapshots(self, lab: Lab) -> Sequence[str]:
        return ()

    def _inventory(self) -> Mapping[str, Mapping[str, str]]:
        file = self.inventory or os.environ.get("LAB_INVENTORY", "")
        return topology.inventory(Path(file).expanduser()) if file else {}


def _keep_pins(endpoint: Endpoint, recorded: Endpoint | None) -> Endpoint:
    """The endpoint with the pinned host keys, unless others are configured now."""
    if recorded is None:
        return endpoint
    return replace(
        endpoint,
        host_key=endpoint.host_key or recorded.host_key,
        jump_host_key=endpoint.jump_host_key or recorded.jump_host_key,
    )


def _refusal(operation: str, hint: str) -> LabError:
    return ProviderError(f"provider ssh cannot {operation} machines: it did not create them", hint)


def _is_running(endpoint: Endpoint) -> bool:
    if not endpoint.jump:
        return accepts_connections(endpoint.address, endpoint.port)
    try:
        presented_key(endpoint)
    except SSH_ERRORS:
        return False
    return True
