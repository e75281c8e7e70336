"""The vagrant provider: implements `provision.providers.base.Provider` with Vagrant."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping, Sequence

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
from provision.providers.routes import accepts_connections, source_address
from provision.providers.vagrant import first_login, host_facts, preflight, record, virtualbox
from provision.providers.vagrant.client import (
    VAGRANT_USER,
    VagrantClient,
    dotfile_folder,
    environment,
    ssh_argv,
)
from provision.providers.vagrant.record import PinnedMachine
from provision.setup import choice


class VagrantProvider(Provider):
    """Virtual machines on this host."""

    name = "vagrant"

    def preflight(self, lab: Lab) -> Sequence[PreflightProblem]:
        return preflight.problems(lab, host_facts.collect(lab, vagrants_provider(lab)))

    def up(
        self, lab: Lab, report: Report, preload: Mapping[str, PackageSet]
    ) -> Mapping[str, Endpoint]:
        """Create and start every machine; those created with plain ``vagrant up`` are adopted.

        ``preload`` is not used: all machines have the same box.
        """
        names = [m.name for m in lab.machines]
        if self._all_run(lab):
            for name in names:
                report(name, "up")
            return self.endpoints(lab)
        provider = vagrants_provider(lab)
        if provider == "virtualbox":
            virtualbox.record_interfaces(lab)
        report("host", f"vagrant up ({provider})")
        VagrantClient(lab, report).up(provider)
        self._wait_until_reachable(lab, names, report)
        return self.endpoints(lab)

    def endpoints(self, lab: Lab) -> Mapping[str, Endpoint]:
        if self.network_problem(lab):
            return {}
        pinned = _pinned_endpoints(lab)
        running = for_each(pinned, lambda name: accepts_connections(pinned[name].address, 22))
        return {name: endpoint for name, endpoint in pinned.items() if running[name]}

    def network_problem(self, lab: Lab) -> str:
        """While the host-only network is up, this host has an address in it and sends from that."""
        for machine in lab.machines:
            source = source_address(str(machine.address))
            if source is None or source not in lab.network:
                route = f"would be reached from {source}" if source else "has no route"
                return (
                    f"this host has no address in {lab.network}: {machine.address} "
                    f"({machine.name}) {route}"
                )
        return ""

    def state(self, lab: Lab) -> Mapping[str, str]:
        created = record.created_machines(lab)
        if not any(m.name in created for m in lab.machines):
            return {m.name: "absent" for m in lab.machines}
        states = VagrantClient(lab).states()
        return {m.name: machine_state(states.get(m.name, "")) for m in lab.machines}

    def member(self, lab: Lab) -> str:
        return ""

    def halt(self, lab: Lab, report: Report, machines: Sequence[str] = ()) -> None:
        names = [lab.machine(name).name for name in machines]
        if not record.created_machines(lab):
            return
        client = VagrantClient(lab, report)
        if not names:
            client.halt()
        for name in names:
            client.halt(name)
        for name in names or [m.name for m in lab.machines]:
            report(name, "halted")

    def kill(self, lab: Lab, machine: str) -> None:
        VagrantClient(lab).halt(lab.machine(machine).name, force=True)

    def start(self, lab: Lab, machine: str) -> None:
        name = lab.machine(machine).name
        if name not in record.created_machines(lab):
            raise ProviderError(f"{name} has not been created yet", "invoke lab.up")
        VagrantClient(lab).up(vagrants_provider(lab), name)
        self._wait_until_reachable(lab, [name], lambda _machine, _message: None)

    def root_command(
        self, lab: Lab, machine: str, argv: Sequence[str], seconds: float = ROOT_COMMAND_SECONDS
    ) -> RootCommand:
        """Over Vagrant's own SSH settings: its own key and address, and no pinned host key."""
        if lab.machine(machine).name not in record.created_machines(lab):
            raise ProviderError(f"{machine} has not been created yet", "invoke lab.up")
        return RootCommand(ssh_argv(machine, argv), environment(lab), lab.root)

    def pin_host_key(self, lab: Lab, machine: str, host_key: str) -> None:
        pinned = record.load(lab)
        number = record.created_machines(lab)[machine][1]
        user = pinned[machine].user if machine in pinned else VAGRANT_USER
        record.save(lab, {**pinned, machine: PinnedMachine(number, user, host_key)})

    def orphaned_machines(self, lab: Lab) -> Sequence[str]:
        return sorted(record.created_machines(lab).keys() - {m.name for m in lab.machines})

    def leftover_machines(self, lab: Lab) -> Sequence[str]:
        return ()  # a machine made with "vagrant up" is adopted

    def remove(self, lab: Lab, machines: Sequence[str], report: Report) -> None:
        """Remove some machines; Vagrant knows only those of the recorded topology."""
        unknown = [name for name in machines if name not in {m.name for m in lab.machines}]
        if unknown:
            raise ProviderError(
                f"Vagrant cannot remove {', '.join(unknown)}: not in the topology "
                f"{lab.topology.name}",
                "restore the topology that has them, then run the same command again",
            )
        for name in machines:
            report(name, "removing")
            VagrantClient(lab, report).destroy(name)
            report(name, "removed")

    def destroy(self, lab: Lab, report: Report) -> None:
        virtualbox.record_masters(lab)
        if record.created_machines(lab):
            VagrantClient(lab, report).destroy()
        orphaned = record.created_machines(lab)
        if orphaned:
            raise ProviderError(
                f"{', '.join(sorted(orphaned))} of lab {lab.name} still exist: they are not in "
                "its topology",
                "restore the topology that has them, then: vagrant destroy --force",
            )
        virtualbox.remove_unused(lab, report)
        shutil.rmtree(dotfile_folder(lab) / "machines", ignore_errors=True)
        (lab.directory / record.FILE).unlink(missing_ok=True)
        report("host", "the lab is removed")

    def frozen_machines(self, lab: Lab) -> Sequence[str]:
        return ()

    def thaw(self, lab: Lab, machines: Sequence[str]) -> None:
        """Nothing: this provider freezes no machine."""

    def snapshot(self, lab: Lab, name: str, report: Report) -> StoredMachines:
        """Take a snapshot with Vagrant; the fingerprint of a machine is Vagrant's id of it."""
        snapshot_names.check_new(name, ())
        created = record.created_machines(lab)
        absent = [m.name for m in lab.machines if m.name not in created]
        if absent:
            raise ProviderError(
                f"{', '.join(absent)} of lab {lab.name} are absent", "invoke lab.up"
            )
        client = VagrantClient(lab, report)
        existing = {taken for names in client.snapshots().values() for taken in names}
        snapshot_names.check_new(name, existing)
        states = self.state(lab)
        started = time.monotonic()
        try:
            client.snapshot_save(name)
        except ProviderError:
            with contextlib.suppress(ProviderError):
                self.delete_snapshot(lab, name, report)
            raise
        return StoredMachines(
            {
                m.name: StoredMachine(states[m.name] == "running", created[m.name][1])
                for m in lab.machines
            },
            paused=time.monotonic() - started,
        )

    def prepare_restore(
        self, lab: Lab, name: str, machines: Mapping[str, StoredMachine], report: Report
    ) -> None:
        """Vagrant deletes the snapshots of a machine together with the machine."""
        created = record.created_machines(lab)
        replaced = [m for m in machines if created.get(m, ("", ""))[1] != machines[m].fingerprint]
        if replaced:
            raise ProviderError(
                f"{', '.join(replaced)} were removed after snapshot {name}, and Vagrant deleted "
                "their part of it; nothing was changed",
                f"invoke lab.snapshot {name} --delete",
            )
        existing = VagrantClient(lab).snapshots()
        missing = [m for m in machines if name not in existing.get(m, ())]
        if missing:
            raise ProviderError(
                f"Vagrant has no snapshot {name} of {', '.join(missing)}; nothing was changed",
                f"invoke lab.snapshot {name} --delete",
            )

    def restore(
        self, lab: Lab, name: str, machines: Mapping[str, StoredMachine], report: Report
    ) -> None:
        """Restore all machines from a snapshot, start them, and set their clocks."""
        client = VagrantClient(lab, report)
        if not self._all_run(lab):
            # When libvirt restores a halted machine, its network has no leases, and Vagrant waits
            # forever for its address: start the machines first.
            client.up(vagrants_provider(lab))
        client.snapshot_restore(name)
        endpoints = _pinned_endpoints(lab)

        def verify(machine: str) -> None:
            report(machine, "waiting for sshd")
            first_login.wait_for_login(machine, endpoints[machine])
            first_login.set_clock(machine, endpoints[machine])
            report(machine, "restored")

        for_each(endpoints, verify)
        halted = [machine for machine, stored in machines.items() if not stored.running]
        if halted:  # Vagrant starts every restored machine
            self.halt(lab, report, halted)

    def delete_snapshot(self, lab: Lab, name: str, report: Report) -> bool:
        client = VagrantClient(lab, report)
        for machine, names in client.snapshots().items():
            if name in names:
                client.snapshot_delete(machine, name)
        return True

    def snapshots(self, lab: Lab) -> Sequence[str]:
        """The names of the snapshots that every machine has, sorted."""
        created = record.created_machines(lab)
        names = [m.name for m in lab.machines if m.name in created]
        if not names:
            return ()
        snapshots = VagrantClient(lab).snapshots()
        return sorted(set.intersection(*(set(snapshots.get(name, ())) for name in names)))

    def _all_run(self, lab: Lab) -> bool:
        return len(self.endpoints(lab)) == len(lab.machines)

    def _wait_until_reachable(self, lab: Lab, names: Sequence[str], report: Report) -> None:
        """Pin the host keys of new machines, and wait for a login on all of them."""
        keys = Secrets(lab.directory).authorized_keys()
        created, pinned = record.created_machines(lab), record.load(lab)

        def pin(name: str) -> PinnedMachine:
            number = created.get(name, ("", ""))[1]
            if name in pinned and pinned[name].id == number:
                return pinned[name]
            report(name, "pinning its host key")
            settings = VagrantClient(lab).ssh_settings(name)
            host_key = first_login.authorize_lab_key(name, settings, keys)
            return PinnedMachine(number, settings.user, host_key)

        current = {**pinned, **for_each(names, pin)}
        if current != pinned:
            record.save(lab, current)
        problem = self.network_problem(lab)
        if problem:
            raise ProviderError(f"the machines run, but {problem}", "invoke lab.doctor --host")
        endpoints = _pinned_endpoints(lab)

        def wait(name: str) -> None:
            report(name, "waiting for sshd")
            first_login.wait_for_login(name, endpoints[name])
            report(name, "up")

        for_each(names, wait)


def vagrants_provider(lab: Lab) -> str:
    """Vagrant's provider for the lab's machines: the one that created existing machines first."""
    current = {provider for provider, _ in record.created_machines(lab).values()}
    return min(current) if current else choice.vagrants_provider()


def machine_state(state: str) -> str:
    """Vagrant's state of a machine as ``running``, ``halted`` or ``absent``."""
    if state == "running":
        return "running"
    return "absent" if state in ("", "not_created") else "halted"


def _pinned_endpoints(lab: Lab) -> dict[str, Endpoint]:
    pinned = record.pinned_machines(lab)
    if not pinned:
        return {}
    key = Secrets(lab.directory).ssh_key()
    return {
        m.name: Endpoint(str(m.address), 22, pinned[m.name].user, key, pinned[m.name].host_key)
        for m in lab.machines
        if m.name in pinned
    }
