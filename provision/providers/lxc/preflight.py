"""Whether this host can run a lab with LXC, judged from its facts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import IPv4Network

from provision.core.lab import Lab
from provision.providers.base import PreflightProblem
from provision.providers.lxc.host_facts import LxcHostFacts
from provision.providers.lxc.paths import LabPaths
from provision.setup import containers


def problems(lab: Lab, facts: LxcHostFacts) -> list[PreflightProblem]:
    """What prevents the lab from running on a host with these facts, and warnings."""
    return [
        *containers.programs(facts),
        *_disk_space(facts),
        *_network(lab, facts),
        *containers.kernel(facts),
        *_file_systems(facts),
    ]


def _disk_space(facts: LxcHostFacts) -> Iterator[PreflightProblem]:
    setting = os.environ.get("LAB_MIN_FREE_MIB", "")
    required = int(setting) if setting.isdecimal() else containers.MIN_FREE_MIB
    if facts.base_image_built:  # machines store only their changes
        required //= 4
    for folder, free in facts.free_mib.items():
        if free < required:
            yield PreflightProblem(
                f"{free} MiB are free in {folder}, and a lab needs {required}",
                "invoke lab.prune shows what can be freed; or store images elsewhere: "
                "LAB_CACHE=/other/folder",
            )


def _network(lab: Lab, facts: LxcHostFacts) -> Iterator[PreflightProblem]:
    users = [user for network, user in facts.networks if network.overlaps(lab.network)]
    if users:
        pool = IPv4Network("192.168.56.0/21").subnets(new_prefix=24)
        free = (n for n in pool if not any(n.overlaps(used) for used, _ in facts.networks))
        yield PreflightProblem(
            f"the network {lab.network} is already in use on this host: "
            f"{', '.join(dict.fromkeys(users))}",
            f"--network {next(free, '10.56.0.0/24')}",
        )
    if facts.legacy_iptables:
        rule = "sudo iptables-legacy -I FORWARD"
        bridge = LabPaths.of(lab).bridge
        yield PreflightProblem(
            "this host filters with iptables-legacy, which may drop the packets of machines",
            "if machines have no network access: "
            f"{rule} -i {bridge} -j ACCEPT; {rule} -o {bridge} -j ACCEPT",
            fatal=False,
        )


def _file_systems(facts: LxcHostFacts) -> Iterator[PreflightProblem]:
    for folder in facts.on_overlay:
        yield PreflightProblem(
            f"{folder} is on an overlay file system, which cannot hold the upper layer of another",
            "run the lab on the host itself, not in a container; or mount a disk there",
        )
