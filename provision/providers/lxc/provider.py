"""The lxc provider: implements `provision.providers.base.Provider` with this package's modules."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from provision.core.endpoint import Endpoint
from provision.core.errors import ProviderError
from provision.core.lab import Lab
from provision.core.package_set import PackageSet
from provision.core.parallel import for_each
from provision.core.report import Report
from provision.core.secrets import Secrets
from provision.core.stored_machine import StoredMachine, StoredMachines
from provision.providers import snapshot_names
from provision.providers.base import ROOT_COMMAND_SECONDS, PreflightProblem, Provider, RootCommand
from provision.providers.image_recipe import USER
from provision.providers.lxc import (
    container,
    disk,
    host_facts,
    images,
    limits,
    network,
    paths,
    preflight,
    prune,
    snapshot,
    spare,
)
from provision.providers.lxc.paths import LabPaths
from provision.providers.lxc.privileged import as_root, remove_tree, run, write_file
from provision.providers.lxc.status import LabStatus, read_status


class LxcProvider(Provider):
    """System containers on this host."""

    name = "lxc"

    def preflight(self, lab: Lab) -> Sequence[PreflightProblem]:
        return preflight.problems(lab, host_facts.collect(lab))

    def up(
        self, lab: Lab, report: Report, preload: Mapping[str, PackageSet]
    ) -> Mapping[str, Endpoint]:
        """Create and start every machine; with LAB_LAYERS=0, ``preload`` is ignored."""
        disk.prepare(lab)
        status = _status(lab)
        new = [m.name for m in lab.machines if m.name not in status.machines]
        if new:
            layers = preload if os.environ.get("LAB_LAYERS", "1") != "0" else {}
            self._create(lab, {name: layers.get(name, PackageSet()) for name in new}, report)
        report("host", "configuring the network")
        _prepare_host(lab)

        self.thaw(lab, self.frozen_machines(lab))
        for_each([m.name for m in lab.machines], lambda name: container.boot(lab, name, report))
        return self.endpoints(lab)

    def _create(self, lab: Lab, package_sets: Mapping[str, PackageSet], report: Report) -> None:
        key = Secrets(lab.directory).authorized_keys()
        with prune.images_locked():
            lower = images.root_file_systems(package_sets, report)

            def create(name: str) -> None:
                report(name, "creating the container")
                container.create(lab, lab.machine(name), lower[package_sets[name]], USER, key)

            for_each(package_sets, create)

    def endpoints(self, lab: Lab) -> Mapping[str, Endpoint]:
        names = LabPaths.of(lab)
        # A frozen one accepts connections, and never responds.
        running = container.running_machines(names) - container.frozen_machines(names)
        if not running:
            return {}
        key = Secrets(lab.directory).ssh_key()
        return {
            m.name: Endpoint(
                address=str(m.address),
                port=22,
                user=USER,
                key=key,
                host_key=_read_host_key(names.host_keys / f"{m.name}.pub"),
            )
            for m in lab.machines
            if m.name in running
        }

    def network_problem(self, lab: Lab) -> str:
        return network.problem(lab)

    def state(self, lab: Lab) -> Mapping[str, str]:
        status = _status(lab)
        return {m.name: status.state(m.name) for m in lab.machines}

    def orphaned_machines(self, lab: Lab) -> Sequence[str]:
        return sorted(_status(lab).machines - {m.name for m in lab.machines})

    def member(self, lab: Lab) -> str:
        return ""

    def halt(self, lab: Lab, report: Report, machines: Sequence[str] = ()) -> None:
        """Shut machines down cleanly; with the last one, the network is removed too."""
        status = _status(lab)
        names = [lab.machine(name).name for name in machines]

        def stop(name: str) -> None:
            if name in status.running:
                _shut_down(lab, name, report)
                report(name, "halted")
            else:
                container.kill(LabPaths.of(lab), name)

        for_each(names or sorted(status.running | status.machines), stop)
        if not container.running_machines(LabPaths.of(lab)):
            spare.remove_others(LabPaths.of(lab))
            network.down(LabPaths.of(lab))

    def kill(self, lab: Lab, machine: str) -> None:
        container.kill(LabPaths.of(lab), lab.machine(machine).name)

    def start(self, lab: Lab, machine: str) -> None:
        name = lab.machine(machine).name
        if name not in _status(lab).machines:
            raise ProviderError(f"{name} has not been created yet", "invoke lab.up")
        _prepare_host(lab)
        container.boot(lab, name, lambda _machine, _message: None)

    def root_command(
        self, lab: Lab, machine: str, argv: Sequence[str], seconds: float = ROOT_COMMAND_SECONDS
    ) -> RootCommand:
        if not container.is_running(lab, lab.machine(machine).name):
            raise ProviderError(f"{machine} is not running", f"invoke lab.start {machine}")
        return RootCommand(as_root(container.attach(lab, machine, argv)))

    def pin_host_key(self, lab: Lab, machine: str, host_key: str) -> None:
        write_file(LabPaths.of(lab).host_keys / f"{machine}.pub", host_key + "\n")

    def leftover_machines(self, lab: Lab) -> Sequence[str]:
        return sorted(_status(lab).machines)

    def remove(self, lab: Lab, machines: Sequence[str], report: Report) -> None:

        def remove(name: str) -> None:
            report(name, "removing")
            container.kill(LabPaths.of(lab), name)
            container.remove(LabPaths.of(lab), name)
            report(name, "removed")

        for_each(machines, remove)

    def destroy(self, lab: Lab, report: Report) -> None:
        names, status = LabPaths.of(lab), _status(lab)
        self.remove(lab, sorted(status.machines | status.partial | status.running), report)
        spare.remove_others(names)
        network.down(names)
        container.remove_cgroups(names)
        disk.remove(names)
        remove_tree(names.directory)
        run("removing the empty folder of all labs", ["rmdir", "--", paths.HOST], ok=())
        report("host", "the lab is removed")

    def frozen_machines(self, lab: Lab) -> Sequence[str]:
        return sorted(container.frozen_machines(LabPaths.of(lab)))

    def thaw(self, lab: Lab, machines: Sequence[str]) -> None:
        for_each(machines, lambda name: container.thaw(LabPaths.of(lab), name))

    def snapshot(self, lab: Lab, name: str, report: Report) -> StoredMachines:
        """Take a snapshot of all machines, which are frozen for the time of copying."""
        own, status = LabPaths.of(lab), _status(lab)
        snapshot_names.check_new(name, snapshot.stored(own))
        members = [m.name for m in lab.machines if m.name in status.machines]
        if not members:
            raise ProviderError(f"lab {lab.name} has no machines", "invoke lab.up")
        missing = [m.name for m in lab.machines if m.name not in status.machines]
        if missing:
            raise ProviderError(
                f"{', '.join(missing)} of lab {lab.name} are absent", "invoke lab.up"
            )
        self.thaw(lab, self.frozen_machines(lab))
        report("host", f"copying to snapshot {name}")
        running = [member for member in members if member in status.running]
        machines, paused = snapshot.create(own, name, members, running)
        return StoredMachines(machines, paused)

    def prepare_restore(
        self, lab: Lab, name: str, machines: Mapping[str, StoredMachine], report: Report
    ) -> None:
        snapshot_names.check_exists(name, snapshot.stored(LabPaths.of(lab)))
        if spare.ready(lab, name, machines) is not None:
            return
        report("host", f"verifying and copying snapshot {name}")
        with prune.images_locked():
            snapshot.prepare(lab, name, machines)

    def restore(
        self, lab: Lab, name: str, machines: Mapping[str, StoredMachine], report: Report
    ) -> None:
        own = LabPaths.of(lab)
        standby = spare.ready(lab, name, machines)
        if standby is not None:
            report("host", "switching to the spare")
            _prepare_host(lab)
            spare.take_over(lab, standby)
            _remove_unused(lab)
            return

        def replace(member: str) -> None:
            report(member, f"restoring snapshot {name}")
            container.kill(own, member)
            snapshot.replace_machine(own, member)

        for_each(machines, replace)
        running = [member for member, stored in machines.items() if stored.running]
        if running:
            report("host", "configuring the network")
            _prepare_host(lab)
            for_each(running, lambda member: container.boot(lab, member, report))
        else:
            network.down(own)
        _remove_unused(lab)

    def prepare_spare(
        self,
        lab: Lab,
        name: str,
        machines: Mapping[str, StoredMachine],
        probes: Mapping[str, Sequence[str]],
        report: Report,
    ) -> None:
        """Boot the machines of a snapshot on a bridge of their own, and freeze them."""
        snapshot_names.check_exists(name, snapshot.stored(LabPaths.of(lab)))
        with prune.images_locked():
            spare.create(lab, name, machines, probes, report)

    def delete_snapshot(self, lab: Lab, name: str, report: Report) -> bool:
        own = LabPaths.of(lab)
        if spare.is_of(own, name):
            spare.remove_others(own)
        return snapshot.delete(own, name)

    def snapshots(self, lab: Lab) -> Sequence[str]:
        return sorted(snapshot.stored(LabPaths.of(lab)))


def _remove_unused(lab: Lab) -> None:
    """Remove what a restore has replaced, and deleted snapshots that nothing uses any more."""
    spare.remove_replaced(LabPaths.of(lab))
    snapshot.finish(LabPaths.of(lab))


def _prepare_host(lab: Lab) -> None:
    """The network and the limits, before a machine starts."""
    network.up(lab)
    limits.apply(lab)


def _status(lab: Lab) -> LabStatus:
    disk.attach(LabPaths.of(lab))
    return read_status(LabPaths.of(lab))


def _shut_down(lab: Lab, name: str, report: Report) -> None:
    report(name, "stopping")
    container.shut_down(lab, name)


def _read_host_key(path: Path) -> str:
    """The pinned host key; empty when the file is lost, which `lab.trust` repairs."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
