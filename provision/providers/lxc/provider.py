"""The embedded provider's surface: what a lab asks for, put together from this package's parts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from provision.core.endpoint import Endpoint
from provision.core.errors import ProviderError
from provision.core.lab import Lab
from provision.core.package_set import PackageSet
from provision.core.report import Report
from provision.core.secrets import Secrets
from provision.providers import images
from provision.providers.base import Problem
from provision.providers.lxc import (
    image,
    inventory,
    machine,
    network,
    places,
    preflight,
    prune,
    snapshot,
)
from provision.providers.lxc.privileged import run
from provision.providers.parallel import each


class LxcProvider:
    """Machines as LXC containers on this host; see :class:`provision.providers.base.Provider`."""

    name = "lxc"

    def preflight(self, lab: Lab) -> Sequence[Problem]:
        """What is missing on this host; nothing is changed."""
        return preflight.problems(lab, preflight.gather(lab))

    def up(
        self, lab: Lab, report: Report, preload: Mapping[str, PackageSet]
    ) -> Mapping[str, Endpoint]:
        """Bring every machine up, in parallel, and wait until its sshd answers.

        Environment: LAB_LAYERS=0 leaves ``preload`` to the configuration over SSH.

        Raises:
            ProviderError: when a machine could not be brought up; those already up stay.
        """
        at = places.of(lab)
        there = inventory.look(at)
        new = [m.name for m in lab.machines if m.name not in there.machines]
        layers = os.environ.get("LAB_LAYERS", "1") != "0"
        wanted = {n: preload.get(n, PackageSet()) if layers else PackageSet() for n in new}
        key = Secrets(lab.directory).public_key()

        def make(name: str) -> None:
            report(name, "making the machine")
            machine.create(lab, lab.machine(name), below[wanted[name]], images.USER, key)

        if new:
            with prune.in_use():
                below = _images(wanted, report)
                each(new, make)
        report("host", "bringing the network up")
        network.up(lab)
        _reachable(lab)

        def bring(name: str) -> None:
            if name in there.interrupted:
                snapshot.mend(lab, name)
            machine.boot(lab, name, report)

        each([m.name for m in lab.machines], bring)
        return self.endpoints(lab)

    def endpoints(self, lab: Lab) -> Mapping[str, Endpoint]:
        """The endpoints of the machines that run now, without changing anything."""
        at = places.of(lab)
        running = machine.running(at, machine.SOCKETS.read_text())
        if not running:
            return {}
        key = Secrets(lab.directory).ssh_key()
        return {
            m.name: Endpoint(
                address=str(m.address),
                port=22,
                user=images.USER,
                key=key,
                host_key=_host_key(at.host_keys / f"{m.name}.pub"),
            )
            for m in lab.machines
            if m.name in running
        }

    def link_problem(self, lab: Lab) -> str:
        """Why nothing may be sent to the lab's addresses now; empty when its network is up."""
        return network.problem(lab)

    def state(self, lab: Lab) -> Mapping[str, str]:
        """By machine name: ``running``, ``halted`` or ``absent``."""
        there = inventory.look(places.of(lab))
        return {
            m.name: "running"
            if m.name in there.running
            else "halted"
            if m.name in there.machines
            else "absent"
            for m in lab.machines
        }

    def strays(self, lab: Lab) -> Sequence[str]:
        """Machines of this lab that are not in its topology any more, sorted."""
        there = inventory.look(places.of(lab))
        return sorted(there.machines - {m.name for m in lab.machines})

    def halt(self, lab: Lab, report: Report, machines: Sequence[str] = ()) -> None:
        """Stop machines cleanly (all, or those named); with the last one the network goes too."""
        at = places.of(lab)
        there = inventory.look(at)
        named = [lab.machine(name).name for name in machines]
        chosen = named or sorted(there.running | there.machines)

        def stop(name: str) -> None:
            if name in there.running:
                report(name, "stopping")
                machine.stop(lab, name)
                report(name, "halted")
            else:
                machine.cut(lab, name)

        each(chosen, stop)
        if not machine.running(at, machine.SOCKETS.read_text()):
            network.down(at)

    def kill(self, lab: Lab, machine_name: str) -> None:
        """Take one machine's power away, as a fault."""
        machine.cut(lab, lab.machine(machine_name).name)

    def start(self, lab: Lab, machine_name: str) -> None:
        """Start one halted or killed machine; returns when its sshd answers.

        Raises:
            ProviderError: when it does not exist or does not start.
        """
        name = lab.machine(machine_name).name
        there = inventory.look(places.of(lab))
        if name not in there.machines:
            raise ProviderError(f"{name} has not been made yet", "invoke lab.up")
        network.up(lab)
        _reachable(lab)
        machine.boot(lab, name, _silent)

    def remove(self, lab: Lab, machines: Sequence[str], report: Report) -> None:
        """Remove some machines with their data. Can be repeated."""

        def remove(name: str) -> None:
            report(name, "removing")
            machine.cut(lab, name)
            machine.remove(lab, name)
            machine.remove_cgroups(places.of(lab), name)
            report(name, "removed")

        each(list(machines), remove)

    def destroy(self, lab: Lab, report: Report) -> None:
        """Remove every machine and everything of this lab on this host. Can be repeated."""
        at = places.of(lab)
        there = inventory.look(at)
        self.remove(lab, sorted(there.machines | there.partial | there.running), report)
        network.down(at)
        machine.remove_cgroups(at)
        run("removing the lab's folder", ["rm", "-rf", "--one-file-system", "--", at.directory])
        run("removing the labs' folder", ["rmdir", "--", places.HOST], ok=())
        report("host", "nothing of the lab is left")

    def snapshot(self, lab: Lab, name: str, report: Report) -> None:
        """Keep the data of all machines under a name; machines that run stop for that moment.

        Raises:
            ProviderError: when the name is taken or malformed.
        """
        there = inventory.look(places.of(lab))
        snapshot.check_new(name, there)
        members = [m.name for m in lab.machines if m.name in there.machines]
        if not members:
            raise ProviderError(f"lab {lab.name} has no machines to keep", "invoke lab.up")
        was_running = [name for name in members if name in there.running]

        def stop(member: str) -> None:
            report(member, "stopping")
            machine.stop(lab, member)

        each(was_running, stop)
        try:
            report("host", f"copying to snapshot {name}")
            snapshot.keep(lab, name, members)
        finally:
            self._again(lab, was_running, report)

    def restore(self, lab: Lab, name: str, report: Report) -> None:
        """Bring all machines back to a snapshot; those that ran run again.

        Raises:
            ProviderError: when there is no such snapshot.
        """
        there = inventory.look(places.of(lab))
        members = snapshot.members(name, there)
        was_running = sorted(there.running & members)

        def back(member: str) -> None:
            report(member, f"going back to {name}")
            machine.cut(lab, member)
            snapshot.restore(lab, name, member)

        each(sorted(members), back)
        self._again(lab, was_running, report)

    def unused_images(self) -> Sequence[Path]:
        """Images on this host that no machine of any lab needs."""
        return prune.unused_images()

    def prune_images(self) -> Sequence[Path]:
        """Remove those; the next new machine may need a minute to build what it needs."""
        return prune.prune_images()

    def snapshots(self, lab: Lab) -> Sequence[str]:
        """The names there are."""
        return [name for name, _ in inventory.look(places.of(lab)).snapshots]

    def _again(self, lab: Lab, names: Sequence[str], report: Report) -> None:
        if names:
            network.up(lab)
            _reachable(lab)
            each(names, lambda name: machine.boot(lab, name, report))


def _reachable(lab: Lab) -> None:
    """Nothing is sent to a lab whose network is not up."""
    problem = network.problem(lab)
    if problem:
        raise ProviderError(f"nothing is sent to {lab.network}: {problem}", "invoke lab.up")


def _silent(machine: str, doing: str) -> None:
    """Say nothing."""


def _images(
    wanted: Mapping[str, PackageSet], report: Report
) -> Mapping[PackageSet, Sequence[Path]]:
    """For each set of packages the root file systems below a machine, uppermost first."""
    recipe = images.recipe()
    base = image.base(recipe, report)
    below: dict[PackageSet, Sequence[Path]] = {PackageSet(): (base,)}

    def build(packages: PackageSet) -> None:
        layer = image.layer(recipe, packages, report)
        below[packages] = (layer, base) if layer else (base,)

    each([p for p in dict.fromkeys(wanted.values()) if p != PackageSet()], build)
    return below


def _host_key(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise ProviderError(
            f"the public host key {path} cannot be read ({error.strerror})",
            "invoke lab.destroy, then scripts/up",
        ) from None
