"""Whether this host can run a lab with Vagrant, judged from its facts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from provision.core.lab import Lab
from provision.providers.base import PreflightProblem
from provision.providers.vagrant.host_facts import OWN_BOX, VagrantHostFacts
from provision.setup import virtual_machines

RESERVED_MIB = 512
"""Memory that remains for the host, in addition to the machines' memory."""


def problems(lab: Lab, facts: VagrantHostFacts) -> list[PreflightProblem]:
    """What prevents the lab from running on a host with these facts, and warnings."""
    return [
        *virtual_machines.programs(facts, facts.provider),
        *_hypervisor(lab, facts),
        *_network(lab, facts),
        *_resources(lab, facts),
        *_existing_machines(facts),
    ]


def _hypervisor(lab: Lab, facts: VagrantHostFacts) -> Iterator[PreflightProblem]:
    if facts.provider == "libvirt":
        yield from virtual_machines.libvirt(facts)
        if facts.system.kind != "Linux":
            return
    else:
        yield from virtual_machines.virtualbox(facts)
        yield from _host_only_network(lab, facts)
    yield from _box(facts)


def _host_only_network(lab: Lab, facts: VagrantHostFacts) -> Iterator[PreflightProblem]:
    if not any(lab.network.subnet_of(allowed) for allowed in facts.ranges):
        allowed = ", ".join(map(str, facts.ranges))
        hint = "--network 192.168.57.0/24"
        if facts.system.kind != "Windows":
            hint += f", or as root: echo '* {lab.network}' >>/etc/vbox/networks.conf"
        what = f"VirtualBox allows host-only networks only in {allowed}, not {lab.network}"
        yield PreflightProblem(what, hint)


def _box(facts: VagrantHostFacts) -> Iterator[PreflightProblem]:
    if facts.own_box and not facts.box:
        what = f"the box {OWN_BOX} for {facts.provider} is not installed"
        hint = "invoke box.build"
        if facts.provider == "virtualbox":
            hint += " --provider virtualbox, on a Debian host"
        yield PreflightProblem(what, hint)


def _network(lab: Lab, facts: VagrantHostFacts) -> Iterator[PreflightProblem]:
    """Whether the lab's network is in use before its machines exist."""
    if facts.created or facts.source is None or facts.source not in lab.network:
        return
    if facts.provider == "virtualbox" and facts.source == lab.gateway:
        return  # VirtualBox reuses a host-only adapter with that address
    yield PreflightProblem(
        f"the network {lab.network} is already in use: this host has {facts.source} in it "
        "(a bridge of libvirt or Docker, another lab, or your local network)",
        "--network 192.168.57.0/24, or another free one",
    )


def _resources(lab: Lab, facts: VagrantHostFacts) -> Iterator[PreflightProblem]:
    if facts.created:
        return
    required = sum(machine.memory for machine in lab.machines)
    if facts.memory_mib and facts.memory_mib < required + RESERVED_MIB:
        yield PreflightProblem(
            f"{facts.memory_mib} MiB of memory are available, and the machines need {required}",
            "close other programs, or set a lower memory: in the topology file (a web server "
            "needs about 600, a balancer 300)",
            fatal=facts.memory_mib < required * 2 // 3,
        )
    for folder, free in facts.free_mib:
        yield from virtual_machines.disk_space(Path(folder), free)


def _existing_machines(facts: VagrantHostFacts) -> Iterator[PreflightProblem]:
    if facts.unpinned:
        what = f"{', '.join(facts.unpinned)}: created by hand, or by a lab.up that failed"
        hint = "they are used as they are; to start from scratch: invoke lab.destroy"
        yield PreflightProblem(what, hint, fatal=False)
    if facts.orphaned:
        what = f"{', '.join(facts.orphaned)}: orphaned machines, no longer in the topology"
        hint = "Vagrant can remove them only with a topology that has them: vagrant destroy NAME"
        yield PreflightProblem(what, hint, fatal=False)
    if facts.unmanaged:
        names = ", ".join(facts.unmanaged)
        what = f"virtual machines with names of this lab that Vagrant does not know: {names}"
        if facts.provider == "virtualbox":  # names contain a time, so new ones differ
            hint = "VBoxManage unregistervm NAME --delete"
            yield PreflightProblem(what, hint, fatal=False)
        else:
            hint = "virsh -c qemu:///system undefine --remove-all-storage NAME"
            yield PreflightProblem(what, hint)
