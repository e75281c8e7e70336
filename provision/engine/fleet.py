"""All machines of a lab over SSH at once: connections, and doing something on each in parallel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TypeVar

from provision.core.endpoint import Endpoint
from provision.core.errors import HostError, LabError
from provision.core.lab import Lab
from provision.core.report import Report
from provision.engine.host import Host
from provision.providers.base import Provider

T = TypeVar("T")


def quiet(machine: str, doing: str) -> None:
    """A report that says nothing."""


def in_parallel(work: Mapping[str, Callable[[], T]]) -> dict[str, T]:
    """Run one function a machine, all at once; every error is reported, not only the first.

    Args:
        work: by machine name, what to call.

    Returns:
        The results by machine name, in the same order.

    Raises:
        LabError: one error as it is; several as one message.
    """
    if not work:
        return {}
    results: dict[str, T] = {}
    errors: list[LabError] = []
    with ThreadPoolExecutor(max_workers=len(work)) as pool:
        futures = {name: pool.submit(function) for name, function in work.items()}
        while wait(futures.values(), timeout=0.2).not_done:
            pass  # a wait without an end would not let Ctrl-C through
        for name, future in futures.items():
            try:
                results[name] = future.result()
            except LabError as error:
                errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise LabError("\n".join(str(e) for e in errors))
    return results


@dataclass
class Fleet:
    """The machines of a lab, connected when first used and kept.

    Use it as a context manager: leaving it closes every connection.
    """

    lab: Lab
    endpoints: Mapping[str, Endpoint]
    report: Report = quiet
    hosts: dict[str, Host] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, endpoint in self.endpoints.items():
            self.hosts[name] = Host(name, endpoint, self._teller(name))

    def _teller(self, name: str) -> Callable[[str], None]:
        return lambda text: self.report(name, text)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts.values():
            host.close()

    def host(self, name: str) -> Host:
        """The machine of that name.

        Raises:
            UsageError: when the lab has none of that name.
            HostError: when it does not run.
        """
        self.lab.machine(name)
        if name not in self.hosts:
            raise HostError(f"{name} is not running", "invoke lab.up starts it")
        return self.hosts[name]

    def each(
        self, function: Callable[[Host], T], only: Iterable[str] | None = None
    ) -> dict[str, T]:
        """Call a function for every machine (or those named), all at once."""
        names = list(self.hosts) if only is None else list(only)

        def bound(host: Host) -> Callable[[], T]:
            return lambda: function(host)

        return in_parallel({name: bound(self.host(name)) for name in names})


def running(lab: Lab, provider: Provider, report: Report = quiet) -> Fleet:
    """The machines of a lab that run now.

    Raises:
        LabError: when the lab's network is not there (nothing may be sent to its addresses then),
            or no machine runs.
    """
    problem = provider.link_problem(lab)
    endpoints = {} if problem else provider.endpoints(lab)
    if not endpoints:
        raise LabError(
            f"lab {lab.name} is not running{f' ({problem})' if problem else ''}",
            "invoke lab.up" + ("" if lab.name == "default" else f" --lab {lab.name}"),
        )
    return Fleet(lab, endpoints, report)
