"""The surface of the Vagrant provider: what a lab asks for, put together from this package."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from provision.core.endpoint import Endpoint
from provision.core.errors import ProviderError
from provision.core.lab import Lab
from provision.core.package_set import PackageSet
from provision.core.patience import patience
from provision.core.report import Report
from provision.core.secrets import Secrets
from provision.providers import choice
from provision.providers.base import Problem
from provision.providers.parallel import each
from provision.providers.routes import source_for
from provision.providers.vagrant import access, asking, preflight, record
from provision.providers.vagrant.client import Client, dotfolder
from provision.providers.vagrant.record import Known

ANSWER = 3.0
"""Seconds in which a running machine accepts a connection."""

REACHED = 120.0 * patience()
"""Seconds from Vagrant's word that a machine is up to a login at the lab's address."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class VagrantProvider:
    """Machines as virtual ones; see :class:`provision.providers.base.Provider`."""

    name = "vagrant"

    def preflight(self, lab: Lab) -> Sequence[Problem]:
        """What is missing on this host; nothing is changed."""
        return preflight.problems(lab, asking.gather(lab, machines_of(lab)))

    def up(
        self, lab: Lab, report: Report, preload: Mapping[str, PackageSet]
    ) -> Mapping[str, Endpoint]:
        """Bring every machine up; also those that somebody made with plain ``vagrant up``.

        ``preload`` is not used: boxes are the same for all machines.

        Raises:
            ProviderError: when a machine could not be brought up; those already up stay.
        """
        if len(self._reachable(lab)) == len(lab.machines):
            for machine in lab.machines:
                report(machine.name, "up")
            return self.endpoints(lab)
        report("host", f"vagrant up ({machines_of(lab)})")
        Client(lab, report).up(machines_of(lab))
        self._introduce(lab, [m.name for m in lab.machines], report)
        return self.endpoints(lab)

    def endpoints(self, lab: Lab) -> Mapping[str, Endpoint]:
        """The endpoints of the machines that run now, without asking Vagrant."""
        if self.link_problem(lab):
            return {}
        known = _recorded(lab)
        with ThreadPoolExecutor(max(1, len(known))) as pool:
            up = dict(zip(known, pool.map(_answers, known.values()), strict=True))
        return {name: endpoint for name, endpoint in known.items() if up[name]}

    def link_problem(self, lab: Lab) -> str:
        """Why nothing may be sent to the lab's addresses now; empty when its network is up.

        With the host-only network up, this host has an address in it and sends from that one.
        """
        for machine in lab.machines:
            source = source_for(str(machine.address))
            if source is None or source not in lab.network:
                way = f"would be sent from {source}" if source else "has no route"
                return (
                    f"this host is not in {lab.network}: {machine.address} ({machine.name}) {way}"
                )
        return ""

    def state(self, lab: Lab) -> Mapping[str, str]:
        """By machine name: ``running``, ``halted`` or ``absent``."""
        made = record.made(lab)
        if not any(m.name in made for m in lab.machines):
            return {m.name: "absent" for m in lab.machines}
        words = {name: word for name, (word, _) in Client(lab).states().items()}
        return {m.name: understand(words.get(m.name, "")) for m in lab.machines}

    def halt(self, lab: Lab, report: Report, machines: Sequence[str] = ()) -> None:
        """Stop machines cleanly (all, or those named)."""
        names = [lab.machine(name).name for name in machines]
        if not record.made(lab):
            return
        if not names:
            Client(lab, report).halt()
        for name in names:
            Client(lab, report).halt(name)
        for name in names or [m.name for m in lab.machines]:
            report(name, "halted")

    def kill(self, lab: Lab, machine: str) -> None:
        """Take one machine's power away, as a fault."""
        Client(lab).halt(lab.machine(machine).name, force=True)

    def start(self, lab: Lab, machine: str) -> None:
        """Start one halted or killed machine; returns when its sshd answers.

        Raises:
            ProviderError: when it does not exist or does not start.
        """
        name = lab.machine(machine).name
        if name not in record.made(lab):
            raise ProviderError(f"{name} has not been made yet", "invoke lab.up")
        Client(lab).up(machines_of(lab), name)
        self._introduce(lab, [name], lambda _machine, _doing: None)

    def strays(self, lab: Lab) -> Sequence[str]:
        """Machines that Vagrant has made for this lab and that its topology lacks."""
        return sorted(record.made(lab).keys() - {m.name for m in lab.machines})

    def remove(self, lab: Lab, machines: Sequence[str], report: Report) -> None:
        """Remove some machines; Vagrant knows only those that the recorded topology has.

        Raises:
            ProviderError: when it does not know one of them.
        """
        unknown = [name for name in machines if name not in {m.name for m in lab.machines}]
        if unknown:
            raise ProviderError(
                f"Vagrant cannot remove {', '.join(unknown)}: the topology {lab.topology.name} "
                "has no such machine any more",
                "bring back the topology that has them, then type the same again",
            )
        for name in machines:
            report(name, "removing")
            Client(lab, report).destroy(name)
            report(name, "removed")

    def destroy(self, lab: Lab, report: Report) -> None:
        """Remove every machine of the lab and Vagrant's record of it. Can be repeated."""
        if record.made(lab):
            Client(lab, report).destroy()
        left = record.made(lab)
        if left:
            raise ProviderError(
                f"Vagrant still knows {', '.join(sorted(left))} of lab {lab.name}",
                "bring back the topology that they are in, then: vagrant destroy --force",
            )
        shutil.rmtree(dotfolder(lab) / "machines", ignore_errors=True)
        (lab.directory / record.FILE).unlink(missing_ok=True)
        report("host", "nothing of the lab is left")

    def snapshot(self, lab: Lab, name: str, report: Report) -> None:
        """Keep the state of all machines under a name, while they run.

        Raises:
            ProviderError: when the name is taken or malformed, or there are no machines.
        """
        if not _NAME.fullmatch(name):
            raise ProviderError(
                f"{name!r} cannot be the name of a snapshot: letters, digits, and . _ - after "
                "the first"
            )
        if not record.made(lab):
            raise ProviderError(f"lab {lab.name} has no machines to keep", "invoke lab.up")
        client = Client(lab, report)
        if any(name in names for names in client.snapshots().values()):
            raise ProviderError(f"there is a snapshot {name} already", "choose another name")
        client.snapshot_save(name)

    def restore(self, lab: Lab, name: str, report: Report) -> None:
        """Bring all machines back to a snapshot; they run afterwards, with the right time.

        Raises:
            ProviderError: when there is no such snapshot, or a machine does not come back.
        """
        client = Client(lab, report)
        known = self.snapshots(lab)
        if name not in known:
            names = ", ".join(known) or "none yet"
            raise ProviderError(f"there is no snapshot {name!r}", f"snapshots there are: {names}")
        if "running" not in self.state(lab).values() or len(self._reachable(lab)) < len(
            lab.machines
        ):
            # libvirt brings a machine that was halted back without its network's leases, and
            # Vagrant then waits for an address that never comes: so it is started first.
            client.up(machines_of(lab))
        client.snapshot_restore(name)
        endpoints = _recorded(lab)

        def verify(machine: str) -> None:
            report(machine, "looking whether it is back")
            access.wait(machine, endpoints[machine], REACHED)
            access.set_clock(machine, endpoints[machine])
            report(machine, "back")

        each(list(endpoints), verify)

    def snapshots(self, lab: Lab) -> Sequence[str]:
        """The names there are, of those that every machine has."""
        made = [m.name for m in lab.machines if m.name in record.made(lab)]
        if not made:
            return ()
        found = Client(lab).snapshots()
        shared = set.intersection(*(set(found.get(name, ())) for name in made))
        return sorted(shared)

    def _reachable(self, lab: Lab) -> Mapping[str, Endpoint]:
        """The machines that are recorded, still the same, and accept connections."""
        return self.endpoints(lab)

    def _introduce(self, lab: Lab, names: Sequence[str], report: Report) -> None:
        """Pin the host keys of machines that are not known yet; wait for all of them."""
        key = Secrets(lab.directory).public_key()
        made, known = record.made(lab), record.load(lab)
        fresh = {}

        def meet(name: str) -> None:
            number = made.get(name, ("", ""))[1]
            if name not in known or known[name].id != number:
                report(name, "reading its host key")
                way = Client(lab).way(name)
                fresh[name] = Known(number, way.user, access.introduce(name, way, key))

        each(names, meet)
        if fresh:
            record.save(lab, {**known, **fresh})
        problem = self.link_problem(lab)
        if problem:
            raise ProviderError(
                f"the machines run, but {problem}", "invoke lab.doctor --host looks at the networks"
            )
        endpoints = _recorded(lab)

        def reach(name: str) -> None:
            report(name, "waiting for sshd")
            access.wait(name, endpoints[name], REACHED)
            report(name, "up")

        each(names, reach)


def machines_of(lab: Lab) -> str:
    """Which of Vagrant's providers makes the lab's machines.

    The one that made those there are, else VAGRANT_DEFAULT_PROVIDER, else VirtualBox where it is
    installed, else libvirt on Linux.
    """
    made = {provider for provider, _ in record.made(lab).values()}
    wanted = os.environ.get("VAGRANT_DEFAULT_PROVIDER", "")
    if made:
        return sorted(made)[0]
    if wanted:
        return wanted
    if choice.vboxmanage() is None and sys.platform == "linux":
        return "libvirt"
    return "virtualbox"


def understand(word: str) -> str:
    """Vagrant's word for a state as one of ours."""
    if word == "running":
        return "running"
    return "absent" if word in ("", "not_created") else "halted"


def _recorded(lab: Lab) -> dict[str, Endpoint]:
    """Endpoints of the recorded machines that are still the same ones."""
    known, made = record.load(lab), record.made(lab)
    same = [m for m in lab.machines if m.name in known and m.name in made]
    same = [m for m in same if made[m.name][1] == known[m.name].id]
    if not same:
        return {}
    key: Path = Secrets(lab.directory).ssh_key()
    return {
        m.name: Endpoint(str(m.address), 22, known[m.name].user, key, known[m.name].host_key)
        for m in same
    }


def _answers(endpoint: Endpoint) -> bool:
    try:
        socket.create_connection((endpoint.address, endpoint.port), timeout=ANSWER).close()
    except OSError:
        return False
    return True
