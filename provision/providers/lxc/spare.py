"""A spare: the machines of a snapshot, booted in advance on a bridge of their own, and frozen.

A restore then kills the lab's machines, puts the spare's interfaces on the lab's bridge, and
thaws: no machine boots. The spare is a further set of machines (`LabPaths.number`), and becomes the
current one. It needs as much memory as the lab, and does not survive a reboot of the host; then a
restore boots the machines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

from provision.core import booting
from provision.core.errors import ProviderError
from provision.core.lab import Lab
from provision.core.parallel import for_each
from provision.core.report import Report
from provision.core.stored_machine import StoredMachine
from provision.core.waiting import timeout_factor, wait_until
from provision.providers.lxc import container, host_firewall, snapshot
from provision.providers.lxc.container import INTERFACES
from provision.providers.lxc.container_config import PLUG, render_config
from provision.providers.lxc.paths import CURRENT, SET, VETH_LETTERS, LabPaths
from provision.providers.lxc.privileged import (
    make_folders,
    remove_in_background,
    remove_tree,
    run,
    write_file,
)

DISCARDED = ".removed-"
"""In the lab's folder: the beginning of the names of folders that are being removed."""

SNAPSHOT = "snapshot"
"""In the folder of a spare that is frozen and complete: the folder of its snapshot."""

BOOT_SECONDS = 90.0 * timeout_factor()
SERVICES_SECONDS = 60.0 * timeout_factor()


def create(
    lab: Lab,
    name: str,
    machines: Mapping[str, StoredMachine],
    probes: Mapping[str, Sequence[str]],
    report: Report,
) -> None:
    """Boot and freeze a spare of a snapshot, instead of any other spare.

    Args:
        probes: by machine, a command that succeeds on it when the lab's services work.

    Raises:
        ProviderError: when a machine does not boot; no spare is left.
    """
    own = LabPaths.of(lab)
    remove_others(own)
    spare = LabPaths(lab.id, own.number % (len(VETH_LETTERS) - 1) + 1)
    source = snapshot.stored(own)[name]
    action = f"preparing a spare of snapshot {name}"
    try:
        make_folders(spare.lxc)
        write_file(own.directory / PLUG.name, PLUG.read_text(encoding="utf-8"))
        run(action, ["chmod", "755", own.directory / PLUG.name])
        write_file(spare.link, spare.spare_bridge + "\n")
        bridge = spare.spare_bridge
        if not (INTERFACES / bridge).exists():
            run(action, ["ip", "link", "add", "name", bridge, "type", "bridge"])
        run(action, ["ip", "link", "set", "dev", bridge, "up"])
        host_firewall.allow(bridge, _comment(own))

        def boot(machine: str) -> None:
            folder = spare.machine(machine)
            make_folders(folder)
            stored = source / machine
            config = run(f"reading {stored}", ["cat", "--", stored / "config"]).stdout
            lower = snapshot.lower_layers(config)
            layered = len(lower) < snapshot.MAX_LAYERS
            layers = snapshot.create_upper_layer(
                action, folder, stored / "delta", lower, layered=layered
            )
            write_file(folder / "config", render_config(lab, lab.machine(machine), layers, spare))
            report(machine, "booting the spare")
            container.start(lab, machine, spare)
            _wait_until_booted(lab, spare, machine)

        for_each(machines, boot)
        report("host", "waiting for the spare's services")
        for machine, probe in probes.items():
            _wait_for_services(lab, spare, machine, probe)
        for_each(machines, lambda machine: _set_watchdogs(lab, spare, machine, on=False))
        for_each(machines, lambda machine: _freeze(spare, machine))
        write_file(spare.lxc / SNAPSHOT, source.name + "\n")
    except BaseException:
        remove_others(own)
        raise


def ready(lab: Lab, name: str, machines: Mapping[str, StoredMachine]) -> LabPaths | None:
    """The spare of a snapshot; None when there is none, or it is not complete.

    Args:
        machines: of the snapshot.
    """
    own = LabPaths.of(lab)
    for spare in _others(own):
        if _snapshot_of(spare) != _folder_name(own, name):
            continue
        frozen = container.frozen_machines(spare) & container.running_machines(spare)
        if frozen == {*machines} and all(stored.running for stored in machines.values()):
            return spare
    return None


def is_of(lab: LabPaths, name: str) -> bool:
    """Whether there is a spare of a snapshot."""
    wanted = _folder_name(lab, name)
    return any(_snapshot_of(spare) == wanted for spare in _others(lab) if wanted)


def take_over(lab: Lab, spare: LabPaths) -> None:
    """Replace the lab's machines by those of the spare. The lab's network is up.

    Raises:
        ProviderError: when a machine does not respond afterwards.
    """
    own = LabPaths.of(lab)
    names = sorted(container.running_machines(spare))
    # From here on, a restart that is interrupted boots them on the lab's own bridge.
    write_file(spare.link, own.bridge + "\n")
    for_each(sorted(container.running_machines(own)), lambda name: container.kill(own, name))
    links = [
        f"link set dev {spare.veth(lab.machine(name).address)} master {own.bridge}"
        for name in names
    ]
    run("connecting the spare", ["ip", "-batch", "-"], stdin="\n".join(links).encode())
    write_file(own.directory / CURRENT, f"{spare.number}\n")
    run("taking the spare", ["rm", "-f", "--", spare.lxc / SNAPSHOT])
    for_each(names, lambda name: container.thaw(spare, name))
    for_each(names, lambda name: container.boot(lab, name, lambda _machine, _text: None))
    for_each(names, lambda name: _set_watchdogs(lab, spare, name, on=True))


def remove_replaced(lab: LabPaths) -> None:
    """Remove the sets of machines that are neither the current one nor a complete spare.

    A restore ends with it: one that was killed before has left such a set, too.
    """
    for other in _others(lab):
        if not _snapshot_of(other):
            _discard(other)
    for folder in _discarded(lab):
        remove_in_background(folder)


def remove_others(lab: LabPaths) -> None:
    """Remove every set of machines but the current one: a spare, or what is left of one."""
    for other in _others(lab):
        _discard(other)
    discarded = _discarded(lab)
    if discarded:
        remove_tree(*discarded)
    if (INTERFACES / lab.spare_bridge).exists():
        host_firewall.revoke(_comment(lab))
        run("removing a spare", ["ip", "link", "delete", "dev", lab.spare_bridge, "type", "bridge"])


def _comment(lab: LabPaths) -> str:
    """Of the rules for a spare in this host's firewall."""
    return f"{lab.table}_spare"


def _discard(lab: LabPaths) -> None:
    """Kill the machines of a set, and move their files to a folder that will be removed."""
    for name in sorted(container.running_machines(lab)):
        container.kill(lab, name)
    action = "removing replaced machines"
    target = lab.directory / f"{DISCARDED}{uuid4().hex[:8]}"
    if lab.number:
        if lab.lxc.exists():
            run(action, ["mv", "-T", "--", lab.lxc, target])
        return
    argv = ["find", str(lab.directory), "-mindepth", "2", "-maxdepth", "2", "-name", "config"]
    configs = run("reading the lab's folder", [*argv, "-print"], ok=(0, 1)).stdout.splitlines()
    folders = [Path(line).parent for line in configs]
    machines = [folder for folder in folders if not folder.name.startswith(".")]
    if machines:
        make_folders(target, mode="700")
        run(action, ["mv", "-t", target, "--", *machines])


def _discarded(lab: LabPaths) -> list[Path]:
    """The folders that `_discard` has moved machines to."""
    return list(lab.directory.glob(f"{DISCARDED}*"))


def _others(lab: LabPaths) -> list[LabPaths]:
    """The sets that have a folder, without the current one; set 0 always has one."""
    numbers = [
        int(path.name.removeprefix(SET))
        for path in lab.directory.glob(f"{SET}*")
        if path.name.removeprefix(SET).isdecimal()
    ]
    return [LabPaths(lab.id, number) for number in sorted({0, *numbers} - {lab.number})]


def _snapshot_of(spare: LabPaths) -> str:
    try:
        return (spare.lxc / SNAPSHOT).read_text().strip() if spare.number else ""
    except OSError:
        return ""


def _folder_name(lab: LabPaths, name: str) -> str:
    folder = snapshot.stored(lab).get(name)
    return folder.name if folder is not None else ""


def _wait_until_booted(lab: Lab, spare: LabPaths, machine: str) -> None:
    """Wait until systemd has started everything; a failed unit was there in the snapshot, too."""

    def booted() -> bool:
        if machine not in container.running_machines(spare):
            raise ProviderError(
                f"the spare of {machine} stops while it boots",
                f"sudo tail {spare.machine(machine)}/console",
            )
        command = container.attach(lab, machine, booting.COMMAND, spare)
        return booting.finished(run("booting a spare", command, ok=()).stdout)

    wait_until(booted, BOOT_SECONDS, f"the spare of {machine} to boot", interval=0.1)


def _wait_for_services(lab: Lab, spare: LabPaths, machine: str, probe: Sequence[str]) -> None:
    argv = container.attach(lab, machine, probe, spare)
    wait_until(
        lambda: run("testing a spare", argv, ok=()).ok,
        SERVICES_SECONDS,
        f"the services of the spare, as seen from {machine}",
        interval=0.2,
    )


def _set_watchdogs(lab: Lab, spare: LabPaths, machine: str, *, on: bool) -> None:
    """Turn the watchdogs of services on or off: they expire while a machine is frozen."""
    argv = ["systemctl", "service-watchdogs", "yes" if on else "no"]
    run(f"setting watchdogs of {machine}", container.attach(lab, machine, argv, spare), ok=())


def _freeze(spare: LabPaths, machine: str) -> None:
    run(f"freezing the spare of {machine}", ["lxc-freeze", "-P", spare.lxc, "-n", machine])
