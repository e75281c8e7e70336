"""The running machines of a lab: their connections, and parallel work on all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from provision.core.endpoint import Endpoint
from provision.core.errors import HostError, LabError
from provision.core.lab import Lab
from provision.core.parallel import for_each
from provision.core.pool.pool import Pool
from provision.core.report import Report
from provision.engine.host import Host

T = TypeVar("T")


def quiet(machine: str, message: str) -> None:
    """A `Report` that discards its messages."""


class Locator(Protocol):
    """The part of a provider that finds running machines."""

    def network_problem(self, lab: Lab) -> str:
        """Why the lab's network is not up, or empty."""

    def endpoints(self, lab: Lab) -> Mapping[str, Endpoint]:
        """The endpoints of the running machines."""


@dataclass
class Fleet:
    """Running machines; each is connected at first use. A context manager closes them all."""

    lab: Lab
    endpoints: Mapping[str, Endpoint]
    report: Report = quiet
    pool: Pool | None = None
    hosts: dict[str, Host] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, endpoint in self.endpoints.items():
            self.hosts[name] = Host(name, endpoint, partial(self._log, name), pool=self.pool)

    def _log(self, machine: str, message: str) -> None:
        self.report(machine, message)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts.values():
            host.close()
        if self.pool is not None:
            self.pool.keep_bound()

    def start(self) -> None:
        """Begin to log in and to start the agents, in the background.

        An operation waits for its own machine only, and repeats a login that failed.
        """
        for host in self.hosts.values():
            threading.Thread(target=host.try_to_start, daemon=True).start()

    def take_over(self, other: Fleet) -> None:
        """Use the connections of another fleet for machines that have the same endpoint in both."""
        for name, host in other.hosts.items():
            if self.endpoints.get(name) == host.endpoint:
                host.log = partial(self._log, name)
                host.pool = self.pool
                self.hosts[name] = host

    def host(self, name: str) -> Host:
        """The machine of that name.

        Raises:
            UsageError: when the lab has no such machine.
            HostError: when it is not running.
        """
        self.lab.machine(name)
        if name not in self.hosts:
            raise HostError(f"{name} is not running", "invoke lab.up")
        return self.hosts[name]

    def each(
        self, function: Callable[[Host], T], only: Iterable[str] | None = None
    ) -> dict[str, T]:
        """Call a function for every machine, or for some, in parallel.

        Raises:
            LabError: all errors of all machines in one.
        """
        hosts = self.hosts if only is None else {name: self.host(name) for name in only}
        return for_each(hosts, lambda name: function(hosts[name]))


def running(lab: Lab, provider: Locator, report: Report = quiet, pool: Pool | None = None) -> Fleet:
    """The running machines of a lab.

    Raises:
        LabError: when none is running, or the lab's network is not up; then a connection to the
            lab's private addresses would leave through the host's default route.
    """
    problem = provider.network_problem(lab)
    endpoints = {} if problem else provider.endpoints(lab)
    if not endpoints:
        reason = f" ({problem})" if problem else ""
        raise LabError(f"lab {lab.name} is not running{reason}", "invoke lab.up")
    return Fleet(lab, endpoints, report, pool)
