"""Checks that each address of the lab's network belongs to one device: its machine.

Machines ask for every address by ARP. A machine that answers for another one's address is at fault;
for an unknown device, the machine whose address it uses. A device that answers for several
addresses is a proxy (proxy ARP), not a conflict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from provision.checks.base import Check, Verdict
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.engine.agent.arp import ArpReplies, arp_probe
from provision.engine.agent.protocol import Probe
from provision.engine.context import Context


def probe(context: Context, machine: Machine) -> Probe[ArpReplies]:
    """Who answers for the machines' addresses."""
    addresses = [str(m.address) for m in context.lab.machines]
    return arp_probe(str(machine.address), addresses)


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """ARP requests, where several machines share a network."""
    if len(context.lab.machines) > 1:
        yield probe(context, machine)


def checks(context: Context) -> Iterator[Check]:
    """One check per machine."""
    if len(context.lab.machines) > 1:
        for machine in context.lab.machines:
            yield _check(context, machine)


@dataclass(frozen=True)
class Conflict:
    """One address with two devices.

    Args:
        machine: at fault.
        owner: the machine whose address it is.
        mac: of a device that is none of the lab's machines; empty for one of them.
    """

    machine: str
    owner: str
    mac: str = ""

    @property
    def text(self) -> str:
        """What is wrong with the machine, as a clause."""
        if self.mac:
            return f"another device, {self.mac}, has its address"
        return f"it answers for the address of {self.owner}"


def conflicts(own: Mapping[str, str], answered: Mapping[str, set[str]]) -> Iterator[Conflict]:
    """All conflicts.

    Args:
        own: the MAC of each machine that is known.
        answered: by machine, the MACs that answer for its address.
    """
    names = {mac: name for name, mac in own.items()}
    proxies = _proxies(names, answered)
    for owner, observed_macs in answered.items():
        macs = observed_macs - proxies
        for mac in sorted(macs & names.keys()):
            if names[mac] != owner:
                yield Conflict(names[mac], owner)
        strangers = sorted(macs - names.keys())
        # One of them belongs to a machine whose own MAC is unknown.
        for mac in strangers[0 if owner in own else 1 :]:
            yield Conflict(owner, owner, mac)


def _proxies(names: Mapping[str, str], answered: Mapping[str, set[str]]) -> set[str]:
    """The MACs that answer for several addresses besides their own: proxy ARP (RFC 1027)."""
    count = Counter(
        mac for owner, macs in answered.items() for mac in macs if names.get(mac) != owner
    )
    return {mac for mac, addresses in count.items() if addresses > 1}


def _check(context: Context, machine: Machine) -> Check:
    name = machine.name

    def judge(observation: Observation) -> Verdict:
        own, answered = observed(context, observation)
        expected = f"only {name} answers for {machine.address}, and for no other address"
        own_conflicts = [
            conflict for conflict in conflicts(own, answered) if conflict.machine == name
        ]
        if not own_conflicts:
            return Verdict(True, expected, "no conflict")
        detail = "\n".join(
            f"{context.lab.machine(owner).address} ({owner}): {', '.join(sorted(macs))}"
            for owner, macs in answered.items()
            if macs
        )
        got = "; ".join(conflict.text for conflict in own_conflicts)
        repair = _repair(context, observation, own_conflicts[0])
        return Verdict(False, expected, got, detail, cause=f"network: {got}", hint=repair)

    hint = f"invoke lab.ssh {name} -- ip -br address"
    return Check(f"address/{name}", name, "network", hint, judge)


def _repair(context: Context, observation: Observation, conflict: Conflict) -> str:
    """The command that removes the address from the machine; empty for an unknown device."""
    machine = context.lab.machine(conflict.machine)
    replies = observation.result(machine.name, probe(context, machine))
    if conflict.mac or replies is None:
        return ""
    address = context.lab.machine(conflict.owner).address
    remove = f"sudo ip address del {address}/{context.lab.network.prefixlen}"
    return f"invoke lab.ssh {machine.name} -- {remove} dev {replies.interface}"


def observed(
    context: Context, observation: Observation
) -> tuple[dict[str, str], dict[str, set[str]]]:
    """The MACs of the machines, and by machine those that answer for its address."""
    own: dict[str, str] = {}
    answered: dict[str, set[str]] = {m.name: set() for m in context.lab.machines}
    for observer in context.lab.machines:
        replies = observation.result(observer.name, probe(context, observer))
        if replies is None:
            continue
        own[observer.name] = replies.mac
        for machine in context.lab.machines:
            answered[machine.name] |= set(replies.macs.get(str(machine.address), ()))
    return own, answered
