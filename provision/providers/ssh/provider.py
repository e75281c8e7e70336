"""The provider of machines that exist already: it finds and judges them, and makes nothing."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import paramiko

from provision import topology
from provision.core.endpoint import Endpoint
from provision.core.errors import LabError, ProviderError
from provision.core.lab import Lab
from provision.core.package_set import PackageSet
from provision.core.report import Report
from provision.providers.base import Problem
from provision.providers.routes import near, source_for
from provision.providers.ssh import record, sources
from provision.providers.ssh.examine import examine, host_key
from provision.providers.ssh.record import Record

ANSWER = 3.0
"""Seconds that a machine that runs may take to accept a connection."""


@dataclass
class SshProvider:
    """Existing machines; see :class:`provision.providers.base.Provider`.

    Args:
        inventory: a file that says how they are reached, or empty (then LAB_INVENTORY).
        pin: whether host keys that nobody gave are taken as they are shown, the first time.
    """

    inventory: str = ""
    pin: bool = False
    _found: dict[str, Endpoint] = field(default_factory=dict)

    name = "ssh"

    def preflight(self, lab: Lab) -> Sequence[Problem]:
        """Every machine that will not do, with the reason; they are asked, nothing is changed."""
        here = sources.client()
        known = record.load(lab)
        endpoints, problems = sources.resolve(lab, self._inventory(), here)
        if problems:
            return problems
        endpoints = {name: _keep_pin(e, known.endpoints.get(name)) for name, e in endpoints.items()}
        hops = sources.first_hops(endpoints.values())
        direct = tuple(a for a in known.direct if a in hops.values())
        lost = record.lost_links(replace(known, direct=direct))
        if lost:
            return [Problem(what, "bring that network up first") for what in lost]

        def look(name: str) -> tuple[str, Endpoint, list[Problem]]:
            endpoint, found = examine(lab, lab.machine(name), endpoints[name], self.pin)
            return name, endpoint, found

        with ThreadPoolExecutor(max(1, len(endpoints))) as pool:
            for name, endpoint, found in pool.map(look, endpoints):
                self._found[name] = endpoint
                problems += found
        return problems

    def up(
        self, lab: Lab, report: Report, preload: Mapping[str, PackageSet]
    ) -> Mapping[str, Endpoint]:
        """Find the machines and record how they are reached; they must be running.

        Raises:
            ProviderError: when one does not qualify.
        """
        names = [m.name for m in lab.machines]
        if sorted(self._found) != sorted(names):
            report("host", "looking at the machines")
            problems = [p for p in self.preflight(lab) if p.fatal]
            if problems:
                raise ProviderError("\n".join(f"{p.what}\n  mend: {p.advice}" for p in problems))
        endpoints = {name: self._found[name] for name in names}
        hops = [*sources.first_hops(endpoints.values()).values()]
        hops += [] if any(e.jump for e in endpoints.values()) else [str(lab.front.address)]
        direct = tuple(sorted({a for a in hops if near(a, source_for(a))}))
        record.save(lab, Record(endpoints, direct))
        for name in names:
            report(name, "there")
        return endpoints

    def endpoints(self, lab: Lab) -> Mapping[str, Endpoint]:
        """The recorded endpoints of the machines that answer now."""
        known = {m.name: m for m in lab.machines}
        there = {n: e for n, e in record.load(lab).endpoints.items() if n in known}
        if not there or self.link_problem(lab):
            return {}
        with ThreadPoolExecutor(len(there)) as pool:
            up = dict(zip(there, pool.map(_answers, there.values()), strict=True))
        return {name: endpoint for name, endpoint in there.items() if up[name]}

    def link_problem(self, lab: Lab) -> str:
        """Why nothing may be sent to the machines now.

        An address that was in a network of this host when the lab came up must still be: behind a
        default route the same private address is somebody else's machine.
        """
        known = record.load(lab)
        if not known.endpoints:
            return "its machines have not been looked at yet"
        return "; ".join(record.lost_links(known))

    def state(self, lab: Lab) -> Mapping[str, str]:
        """``running`` when sshd answers, ``absent`` before the first ``lab.up``."""
        known, up = record.load(lab).endpoints, self.endpoints(lab)
        return {
            m.name: "running" if m.name in up else "halted" if m.name in known else "absent"
            for m in lab.machines
        }

    def halt(self, lab: Lab, report: Report, machines: Sequence[str] = ()) -> None:
        """Refused: what was switched off could not be switched on again from here."""
        raise _refuse("halted", "invoke lab.ssh MACHINE -- sudo systemctl poweroff")

    def kill(self, lab: Lab, machine: str) -> None:
        """Refused."""
        raise _refuse("killed", f"invoke lab.ssh {machine} -- sudo systemctl poweroff --force")

    def start(self, lab: Lab, machine: str) -> None:
        """Nothing to do for a machine that runs; otherwise refused."""
        lab.machine(machine)
        if machine not in self.endpoints(lab):
            raise _refuse("started", f"switch {machine} on, then invoke lab.up")

    def strays(self, lab: Lab) -> Sequence[str]:
        """None: what machines there are is not for the lab to say."""
        return ()

    def remove(self, lab: Lab, machines: Sequence[str], report: Report) -> None:
        """Refused: the machines were there before the lab."""
        raise _refuse(
            f"removed ({', '.join(machines)})",
            "invoke lab.clean takes the lab off all of them; then lab.up with the other topology",
        )

    def destroy(self, lab: Lab, report: Report) -> None:
        """Refused: the machines were there before the lab."""
        raise _refuse("destroyed", "invoke lab.clean shows what the lab put there and removes it")

    def snapshot(self, lab: Lab, name: str, report: Report) -> None:
        """Refused."""
        raise _refuse("kept in snapshots", "use what these machines run on")

    def restore(self, lab: Lab, name: str, report: Report) -> None:
        """Refused."""
        raise _refuse("restored", "use what these machines run on")

    def snapshots(self, lab: Lab) -> Sequence[str]:
        """None."""
        return ()

    def _inventory(self) -> Mapping[str, Mapping[str, str]]:
        named = self.inventory or os.environ.get("LAB_INVENTORY", "")
        return topology.inventory(Path(named).expanduser()) if named else {}


def _keep_pin(endpoint: Endpoint, known: Endpoint | None) -> Endpoint:
    """A host key that was pinned before stays, unless another one was given meanwhile."""
    if known is None:
        return endpoint
    return replace(
        endpoint,
        host_key=endpoint.host_key or known.host_key,
        jump_host_key=endpoint.jump_host_key or known.jump_host_key,
    )


def _refuse(what: str, advice: str) -> LabError:
    return ProviderError(
        f"the machines of this lab exist without it (provider ssh): they are not {what} from here",
        advice,
    )


def _answers(endpoint: Endpoint) -> bool:
    if endpoint.jump:
        with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
            host_key(endpoint)
            return True
        return False
    try:
        socket.create_connection((endpoint.address, endpoint.port), timeout=ANSWER).close()
    except OSError:
        return False
    return True
