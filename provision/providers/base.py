"""The interface of a provider, which makes the machines of a lab. Everything above it is SSH."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from provision.core.endpoint import Endpoint
from provision.core.errors import ProviderError
from provision.core.lab import Lab
from provision.core.package_set import PackageSet
from provision.core.report import Report
from provision.core.stored_machine import StoredMachine, StoredMachines
from provision.core.waiting import timeout_factor
from provision.setup.problem import PreflightProblem as PreflightProblem

ROOT_COMMAND_SECONDS = 600.0 * timeout_factor()
"""For a program that a user runs without a terminal."""


@dataclass(frozen=True)
class RootCommand:
    """A command of this host that runs a program as root inside a machine, without the lab's SSH.

    Args:
        env: its complete environment; None for the inherited one.
        folder: its working directory.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    folder: Path = Path("/")


class Provider(Protocol):
    """Creates, starts, stops and removes the machines of a lab."""

    name: str

    def preflight(self, lab: Lab) -> Sequence[PreflightProblem]:
        """Check the prerequisites on this host. Read only."""

    def up(
        self, lab: Lab, report: Report, preload: Mapping[str, PackageSet]
    ) -> Mapping[str, Endpoint]:
        """Create and start every machine, in parallel, and wait until sshd accepts connections.

        Existing machines are started with their data.

        Args:
            preload: by machine name, packages that may already be in the machine's image. The
                configuration over SSH installs those that are not.

        Raises:
            ProviderError: when a machine could not be started; the others stay up.
        """

    def endpoints(self, lab: Lab) -> Mapping[str, Endpoint]:
        """The endpoints of the running machines."""

    def network_problem(self, lab: Lab) -> str:
        """Why the lab's network is not up, or empty.

        Without its bridge, packets for the lab's private addresses would leave through the host's
        default route. No connection is made while there is a network problem.
        """

    def state(self, lab: Lab) -> Mapping[str, str]:
        """By machine name: ``running``, ``halted`` or ``absent``."""

    def member(self, lab: Lab) -> str:
        """The member of a cluster that has the lab's machines; empty without a cluster.

        No connection is made.
        """

    def halt(self, lab: Lab, report: Report, machines: Sequence[str] = ()) -> None:
        """Shut machines down cleanly (all of them by default) and keep their data."""

    def kill(self, lab: Lab, machine: str) -> None:
        """Power a machine off without a shutdown, to simulate a crash."""

    def start(self, lab: Lab, machine: str) -> None:
        """Start a halted machine and wait until sshd accepts connections.

        Raises:
            ProviderError: when it does not exist or does not start.
        """

    def root_command(
        self, lab: Lab, machine: str, argv: Sequence[str], seconds: float = ROOT_COMMAND_SECONDS
    ) -> RootCommand:
        """How to run a program as root inside a running machine when the lab's SSH access fails.

        Args:
            argv: the program; empty for a login shell on this terminal.
            seconds: after which a provider that runs it over a network ends it, except on a
                terminal.

        Raises:
            ProviderError: when the provider cannot do that; with what the user can do instead.
        """

    def pin_host_key(self, lab: Lab, machine: str, host_key: str) -> None:
        """Record another host key for a machine: ``ssh-ed25519 AAAA…``."""

    def orphaned_machines(self, lab: Lab) -> Sequence[str]:
        """Machines that exist for this lab and are no longer in its topology, sorted."""

    def leftover_machines(self, lab: Lab) -> Sequence[str]:
        """For a lab without a record: machines whose record was deleted with a checkout, sorted."""

    def remove(self, lab: Lab, machines: Sequence[str], report: Report) -> None:
        """Remove some machines and their data, including orphaned ones.

        Raises:
            ProviderError: when they cannot be removed, or existed before the lab.
        """

    def destroy(self, lab: Lab, report: Report) -> None:
        """Remove every machine and every other trace of the lab on this host. Idempotent."""

    def frozen_machines(self, lab: Lab) -> Sequence[str]:
        """Machines that a snapshot has frozen, or left frozen when it was killed, sorted."""

    def thaw(self, lab: Lab, machines: Sequence[str]) -> None:
        """Continue frozen machines."""

    def snapshot(self, lab: Lab, name: str, report: Report) -> StoredMachines:
        """Take a snapshot of all machines.

        Raises:
            ProviderError: when the name is invalid or in use, the lab has no machines, or the disk
                is full; nothing is left behind then.
        """

    def prepare_restore(
        self, lab: Lab, name: str, machines: Mapping[str, StoredMachine], report: Report
    ) -> None:
        """Verify a snapshot, and copy what `restore` will need, without touching a machine.

        Args:
            lab: as it was when the snapshot was taken.

        Raises:
            ProviderError: when the snapshot is incomplete or damaged, or the disk is full.
        """

    def restore(
        self, lab: Lab, name: str, machines: Mapping[str, StoredMachine], report: Report
    ) -> None:
        """Replace the machines by those of a prepared snapshot, and start those that ran.

        Other machines were removed before. May be repeated after an interruption, beginning with
        `prepare_restore`.
        """

    def prepare_spare(
        self,
        lab: Lab,
        name: str,
        machines: Mapping[str, StoredMachine],
        probes: Mapping[str, Sequence[str]],
        report: Report,
    ) -> None:
        """Boot the machines of a snapshot beforehand, so that its restore need not boot them.

        Args:
            lab: as it was when the snapshot was taken.
            probes: by machine, a command that succeeds on it when the lab's services work.

        Raises:
            ProviderError: when the provider cannot do that, as by default, or a machine does not
                boot; the snapshot stays as it is.
        """
        raise ProviderError(
            f"provider {self.name} has no spares: a restore boots the machines", "leave out --spare"
        )

    def delete_snapshot(self, lab: Lab, name: str, report: Report) -> bool:
        """Delete a snapshot. Idempotent.

        Returns:
            False when a machine or another snapshot still uses its data; the data is removed with
            the last of them.
        """

    def snapshots(self, lab: Lab) -> Sequence[str]:
        """The names of the stored snapshots, sorted."""
