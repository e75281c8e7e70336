"""The incus provider: implements `provision.providers.base.Provider` with these modules."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from provision.core.classroom import limits_of
from provision.core.endpoint import Endpoint
from provision.core.errors import ProviderError
from provision.core.lab import ROOT, Lab
from provision.core.locks import file_lock
from provision.core.package_set import PackageSet
from provision.core.parallel import for_each
from provision.core.report import Report
from provision.core.secrets import Secrets
from provision.core.stored_machine import StoredMachine, StoredMachines
from provision.providers.base import ROOT_COMMAND_SECONDS, PreflightProblem, Provider, RootCommand
from provision.providers.image_recipe import USER
from provision.providers.incus import (
    images,
    instance,
    names,
    network,
    placement,
    preflight,
    record,
    snapshot,
)
from provision.providers.incus.client import IncusClient
from provision.providers.incus.record import LabRecord
from provision.providers.lxc.container_config import new_host_key

PLACEMENT_LOCK = ROOT / ".lab" / ".incus-placement.lock"
PLACEMENT_SECONDS = 120.0
"""How long a lab waits while others of a class are placed."""


class IncusProvider(Provider):
    """System containers of an Incus server, or of one member of a cluster."""

    name = "incus"

    def preflight(self, lab: Lab) -> Sequence[PreflightProblem]:
        return preflight.problems(lab)

    def up(
        self, lab: Lab, report: Report, preload: Mapping[str, PackageSet]
    ) -> Mapping[str, Endpoint]:
        """Create and start every machine; with LAB_LAYERS=0, ``preload`` is ignored."""
        client = _client(lab)
        rows = _reachable(client, lab)
        placed = self._place(client, lab, rows, report)
        present = {name for name, row in rows.items() if instance.is_complete(row)}
        new = [m.name for m in lab.machines if m.name not in present]
        limit = limits_of(lab)
        if new:
            layers = preload if os.environ.get("LAB_LAYERS", "1") != "0" else {}
            package_sets = {name: layers.get(name, PackageSet()) for name in new}
            self._create(client, lab, placed, package_sets, report)
        for name in present & {m.name for m in lab.machines}:
            instance.set_limits(client, lab, rows[name], limit)
        network.route(lab, placed)
        self.thaw(lab, self.frozen_machines(lab))

        def boot(name: str) -> None:
            if rows.get(name, {}).get("status") != instance.RUNNING:
                report(name, "starting")
                instance.start(client, lab, name)
            report(name, "waiting for sshd")
            instance.wait_for_sshd(lab, name)
            report(name, "up")

        for_each([m.name for m in lab.machines], boot)
        return self.endpoints(lab)

    def _place(
        self, client: IncusClient, lab: Lab, rows: Mapping[str, Any], report: Report
    ) -> LabRecord:
        """Choose a member for a new lab, create its network, and record both."""
        existing = record.load(lab)
        server = client.server()["environment"].get("server_name", "")
        members = placement.members(client)
        by_name = {member.name: member for member in members}
        with file_lock(PLACEMENT_LOCK, PLACEMENT_SECONDS):
            locations = {row["location"] for row in rows.values()} & {*by_name}
            recorded = by_name.get(existing.member) if existing else None
            member = by_name[min(locations)] if locations else recorded
            if member is None:
                member = placement.choose(client, members)
            if member is not None and not rows:
                report("host", f"placing the lab on member {member.name}")
            via = network.next_hop(client, member, server)
            keys = existing.host_keys if existing else {}
            placed = LabRecord(client.remote, member.name if member else "", via, keys)
            record.save(lab, placed)
            report("host", "configuring the network")
            network.create(client, lab, members, placed.member)
        return placed

    def _create(
        self,
        client: IncusClient,
        lab: Lab,
        placed: LabRecord,
        package_sets: Mapping[str, PackageSet],
        report: Report,
    ) -> None:
        key = Secrets(lab.directory).authorized_keys()
        pool, limit = preflight.storage_pool(client), limits_of(lab)
        aliases = images.ensure(client, package_sets, report)

        def create(name: str) -> str:
            report(name, "creating the instance")
            host_key = new_host_key()
            machine = lab.machine(name)
            instance.remove(client, lab, name)  # of an interrupted attempt
            instance.create(client, lab, machine, aliases[name], pool, placed.member, limit)
            instance.write_files(client, lab, machine, key, host_key)
            return host_key.public

        keys = for_each(package_sets, create)
        present = record.load(lab) or placed
        record.save(lab, replace(present, host_keys={**present.host_keys, **keys}))

    def endpoints(self, lab: Lab) -> Mapping[str, Endpoint]:
        placed = record.load(lab)
        if placed is None:
            return {}
        rows = _reachable(IncusClient(placed.remote), lab)
        running = {name for name, row in rows.items() if row["status"] == instance.RUNNING}
        if not running:
            return {}
        key = Secrets(lab.directory).ssh_key()
        return {
            m.name: Endpoint(str(m.address), 22, USER, key, placed.host_keys.get(m.name, ""))
            for m in lab.machines
            if m.name in running
        }

    def network_problem(self, lab: Lab) -> str:
        placed = record.load(lab)
        if placed is None:
            return f"lab {lab.name} has no network in Incus yet"
        return network.problem(lab, placed)

    def state(self, lab: Lab) -> Mapping[str, str]:
        rows = _reachable(_client(lab), lab)
        return {m.name: _state(rows.get(m.name)) for m in lab.machines}

    def member(self, lab: Lab) -> str:
        placed = record.load(lab)
        return placed.member if placed else ""

    def halt(self, lab: Lab, report: Report, machines: Sequence[str] = ()) -> None:
        client = _client(lab)
        rows = _reachable(client, lab)
        wanted = [lab.machine(name).name for name in machines] or sorted(rows)
        self.thaw(lab, [n for n in wanted if n in rows and rows[n]["status"] == instance.FROZEN])

        def stop(name: str) -> None:
            if name in rows and rows[name]["status"] != instance.STOPPED:
                report(name, "stopping")
                instance.shut_down(client, lab, name)
                report(name, "halted")

        for_each(wanted, stop)

    def kill(self, lab: Lab, machine: str) -> None:
        instance.kill(_client(lab), lab, lab.machine(machine).name)

    def start(self, lab: Lab, machine: str) -> None:
        name = lab.machine(machine).name
        client = _client(lab)
        row, placed = _reachable(client, lab).get(name), record.load(lab)
        if row is None or placed is None or not instance.is_complete(row):
            raise ProviderError(f"{name} has not been created yet", "invoke lab.up")
        network.route(lab, placed)
        instance.start(client, lab, name)
        instance.wait_for_sshd(lab, name)

    def root_command(
        self, lab: Lab, machine: str, argv: Sequence[str], seconds: float = ROOT_COMMAND_SECONDS
    ) -> RootCommand:
        """Through Incus' API, without the program ``incus``."""
        if self.state(lab)[lab.machine(machine).name] != "running":
            raise ProviderError(f"{machine} is not running", f"invoke lab.start {machine}")
        module = "provision.providers.incus.attach"
        file = str(lab.directory / record.FILE)
        own = (file, names.instance(lab, machine), f"{seconds:g}")
        return RootCommand((sys.executable, "-m", module, *own, *argv), folder=ROOT)

    def pin_host_key(self, lab: Lab, machine: str, host_key: str) -> None:
        placed = record.load(lab)
        if placed is not None:
            keys = {**placed.host_keys, machine: host_key}
            record.save(lab, replace(placed, host_keys=keys))

    def orphaned_machines(self, lab: Lab) -> Sequence[str]:
        if record.load(lab) is None:
            return ()
        return sorted(instance.instances(_client(lab), lab).keys() - {m.name for m in lab.machines})

    def leftover_machines(self, lab: Lab) -> Sequence[str]:
        return sorted(instance.instances(_client(lab), lab))

    def remove(self, lab: Lab, machines: Sequence[str], report: Report) -> None:
        client = _client(lab)

        def remove(name: str) -> None:
            report(name, "removing")
            instance.remove(client, lab, name)
            report(name, "removed")

        for_each(machines, remove)

    def destroy(self, lab: Lab, report: Report) -> None:
        client, placed = _client(lab), record.load(lab)
        self.remove(lab, sorted(_reachable(client, lab)), report)
        network.remove(client, lab)
        if placed is not None:
            network.unroute(lab, placed)
        record.remove(lab)
        report("host", "the lab is removed")

    def frozen_machines(self, lab: Lab) -> Sequence[str]:
        if record.load(lab) is None:
            return ()
        rows = instance.instances(_client(lab), lab)
        return sorted(name for name, row in rows.items() if row["status"] == instance.FROZEN)

    def thaw(self, lab: Lab, machines: Sequence[str]) -> None:
        client = _client(lab)
        for_each(machines, lambda name: instance.change_state(client, lab, name, "unfreeze"))

    def snapshot(self, lab: Lab, name: str, report: Report) -> StoredMachines:
        """Take a snapshot of every instance, while all of them are frozen."""
        client = _client(lab)
        return snapshot.take(client, lab, name, _reachable(client, lab), report)

    def prepare_restore(
        self, lab: Lab, name: str, machines: Mapping[str, StoredMachine], report: Report
    ) -> None:
        """Incus removes the snapshots of an instance together with the instance."""
        snapshot.verify(_client(lab), lab, name, machines)

    def restore(
        self, lab: Lab, name: str, machines: Mapping[str, StoredMachine], report: Report
    ) -> None:
        client, placed = _client(lab), record.load(lab)
        self.thaw(lab, self.frozen_machines(lab))

        def replace_by_snapshot(machine: str) -> None:
            report(machine, f"restoring snapshot {name}")
            instance.kill(client, lab, machine)
            snapshot.restore(client, lab, machine, name)

        for_each(machines, replace_by_snapshot)
        if placed is not None:
            network.route(lab, placed)

        def boot(machine: str) -> None:
            report(machine, "starting")
            instance.start(client, lab, machine)
            instance.wait_for_sshd(lab, machine)
            report(machine, "up")

        for_each([n for n, stored in machines.items() if stored.running], boot)

    def delete_snapshot(self, lab: Lab, name: str, report: Report) -> bool:
        client = _client(lab)
        for_each(instance.instances(client, lab), lambda n: snapshot.delete(client, lab, n, name))
        return True

    def snapshots(self, lab: Lab) -> Sequence[str]:
        """The names of the snapshots that every machine has, sorted."""
        if record.load(lab) is None:
            return ()
        client = _client(lab)
        present = instance.instances(client, lab)
        machines = [m.name for m in lab.machines if m.name in present]
        return sorted(snapshot.of_all(client, lab, machines))


def _client(lab: Lab) -> IncusClient:
    return IncusClient(record.remote_of(lab))


def _state(row: Mapping[str, Any] | None) -> str:
    if row is None or not instance.is_complete(row):
        return "absent"
    return "halted" if row["status"] == instance.STOPPED else "running"


def _reachable(client: IncusClient, lab: Lab) -> Mapping[str, Any]:
    """The lab's instances.

    Raises:
        ProviderError: when the member that they are on does not respond.
    """
    rows = instance.instances(client, lab)
    lost = {row["location"] for row in rows.values() if row["status"] == "Error"}
    for member in placement.members(client) if lost else ():
        if member.name in lost:
            why = f": {member.message}" if not member.online else ""
            raise ProviderError(
                f"lab {lab.name} is on member {member.name} of the Incus cluster, which does not "
                f"respond{why}",
                "start that member; if it is lost for good: incus cluster remove --force "
                f"{client.remote.prefix}{member.name}; invoke lab.up makes a new lab elsewhere",
            )
    return rows
