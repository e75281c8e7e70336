"""The limits of a lab as Incus knows them: those of its instances, which share the lab's evenly.

Incus has no control group for several instances. Memory is shared in the proportion of the
topology's ``memory``, everything else in equal parts.
"""

from __future__ import annotations

from provision.core.lab import Lab, Machine
from provision.core.limits import Limits

KEYS = ("limits.memory", "limits.processes", "limits.cpu.allowance")
FULL_SHARE = 100
"""``limits.cpu.allowance`` in percent: the share of an instance without a limit."""


def instance_config(lab: Lab, machine: Machine, limits: Limits) -> dict[str, str]:
    """Configuration keys of a machine's instance; an empty value removes a limit."""
    memory = limits.memory * machine.memory // sum(m.memory for m in lab.machines)
    processes = limits.processes // len(lab.machines)
    cpu = min(limits.cpu, FULL_SHARE)
    return {
        "limits.memory": f"{memory}MiB" if limits.memory else "",
        "limits.processes": str(processes) if limits.processes else "",
        "limits.cpu.allowance": f"{cpu}%" if cpu else "",
    }


def disk_size(lab: Lab, limits: Limits) -> str:
    """The size of a root disk, or empty. Pools with the driver ``dir`` may not enforce it."""
    return f"{limits.disk // len(lab.machines)}MiB" if limits.disk else ""
