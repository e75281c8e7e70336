"""Where machines come from: what every provider offers. Above this, everything is SSH."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from provision.core.endpoint import Endpoint
from provision.core.lab import Lab
from provision.core.package_set import PackageSet
from provision.core.report import Report


@dataclass(frozen=True)
class Problem:
    """Something a provider needs and does not have.

    Args:
        what: what is missing or in the way.
        advice: the command (or the step) that mends it.
        fatal: False when the lab comes up all the same.
    """

    what: str
    advice: str
    fatal: bool = True


class Provider(Protocol):
    """Makes, finds, stops and removes the machines of a lab."""

    name: str

    def preflight(self, lab: Lab) -> Sequence[Problem]:
        """What is missing on this host, read only: nothing is installed or changed."""

    def up(
        self, lab: Lab, report: Report, preload: Mapping[str, PackageSet]
    ) -> Mapping[str, Endpoint]:
        """Bring every machine up, in parallel, and wait until its sshd answers.

        Machines that exist are started with their data. ``preload`` is a hint by machine name;
        the configuration over SSH installs whatever is not there.

        Raises:
            ProviderError: when a machine could not be brought up; those already up stay.
        """

    def endpoints(self, lab: Lab) -> Mapping[str, Endpoint]:
        """The endpoints of the machines that run now, without changing anything."""

    def link_problem(self, lab: Lab) -> str:
        """Why nothing may be sent to the lab's addresses now; empty when its network is up.

        A private address whose bridge is gone would be routed out of this host.
        """

    def state(self, lab: Lab) -> Mapping[str, str]:
        """By machine name: ``running``, ``halted`` or ``absent``."""

    def halt(self, lab: Lab, report: Report, machines: Sequence[str] = ()) -> None:
        """Stop machines cleanly (all, or those named), keeping their data."""

    def kill(self, lab: Lab, machine: str) -> None:
        """Take one machine's power away, as a fault."""

    def start(self, lab: Lab, machine: str) -> None:
        """Start one halted or killed machine; returns when its sshd answers."""

    def strays(self, lab: Lab) -> Sequence[str]:
        """Machines that were made for this lab and are not in its topology any more."""

    def remove(self, lab: Lab, machines: Sequence[str], report: Report) -> None:
        """Remove some machines with their data; the lab's topology (or `strays`) has them.

        Raises:
            ProviderError: when they cannot be removed, or are not the provider's to remove.
        """

    def destroy(self, lab: Lab, report: Report) -> None:
        """Remove every machine and everything of this lab on the host. Can be repeated."""

    def snapshot(self, lab: Lab, name: str, report: Report) -> None:
        """Keep the state of all machines under a name."""

    def restore(self, lab: Lab, name: str, report: Report) -> None:
        """Bring all machines back to a snapshot."""

    def snapshots(self, lab: Lab) -> Sequence[str]:
        """The names there are."""
