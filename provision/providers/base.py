"""Where machines come from: what every provider offers. Above this, everything is SSH."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from provision.core.lab import Lab


@dataclass(frozen=True)
class Endpoint:
    """How a machine is reached over SSH.

    Args:
        address: host name or address to connect to.
        port: TCP port of sshd.
        user: a user who may ``sudo -n``.
        key: the private key's file.
        host_key: the machine's public host key, ``ssh-ed25519 AAAA…``; nothing else is accepted.
        jump: ``user@host:port`` of a jump host, or empty.
        agent: whether keys of a running SSH agent may be offered too.
        jump_key: the private key's file for the jump host, when it is another one.
        jump_host_key: the jump host's public host key; nothing else is accepted there either.
    """

    address: str
    port: int
    user: str
    key: Path
    host_key: str
    jump: str = ""
    agent: bool = False
    jump_key: Path | None = None
    jump_host_key: str = ""


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


class Report(Protocol):
    """Where long work says what it is doing."""

    def __call__(self, machine: str, doing: str) -> None:
        """Say that ``machine`` (or ``host``, the controller) is now doing that."""


@dataclass(frozen=True)
class PackageSet:
    """What a machine will need, told to a provider that can put it into an image beforehand.

    Args:
        packages: names from the machine's own Debian release.
        sid: names that are taken from sid (pinned; everything else of sid stays out).
    """

    packages: tuple[str, ...] = ()
    sid: tuple[str, ...] = ()


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
