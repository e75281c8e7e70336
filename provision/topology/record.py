"""Record the topology, provider and network of a lab when it is brought up."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from provision import topology as topologies
from provision.core import state as states
from provision.core.errors import LabError
from provision.core.lab import DEFAULT_LAB, Balance, Lab
from provision.core.locks import file_lock
from provision.core.state import State
from provision.topology.networks import free_network, recorded_networks, used_networks


def record_lab(lab: Lab, provider: str) -> State:
    """Record that the machines are prepared for a topology, which `record_reached` completes.

    Values that were set at run time are kept. Call it with the lab locked, before the first
    machine is created.

    Raises:
        LabError: when the lab exists with another provider, when the topology has no database on
            the current primary, or when another lab has taken the network in the meantime.
    """
    with file_lock(lab.root / ".lab" / ".lock"), file_lock(lab.directory / states.LOCK):
        before = states.load(lab.directory)
        for other, network in recorded_networks(lab).items():
            if lab.network.overlaps(network):
                raise LabError(
                    f"lab {lab.name} cannot use {lab.network}: lab {other} uses {network}",
                    _command_with_free_network(lab),
                )
        state = _next_state(lab, provider, before)
        if state != before:
            states.save(lab.directory, state)
    return state


def record_target(lab: Lab) -> None:
    """Record what an existing lab is on the way to, before a machine of it is changed."""
    reference = topologies.reference(lab.topology, lab.root)
    with file_lock(lab.directory / states.LOCK):
        before = states.load(lab.directory)
        if before is not None and (before.target or reference != before.topology):
            current = before.current_topology
            reached = _reached(before, reference)
            working = current if current != reached else ""
            after = replace(before, topology=reached, target=reference, working=working)
            states.save(lab.directory, after)


def record_reached(lab: Lab) -> State:
    """Record that the lab has the topology that it was on the way to."""
    with file_lock(lab.directory / states.LOCK):
        before = states.load(lab.directory)
        if before is None:
            raise LabError(f"lab {lab.name} does not exist", "invoke lab.up")
        if not before.target:
            return before
        after = replace(before, topology=before.target, target="", working="")
        states.save(lab.directory, after)
    return after


def progress(topology: str, target: str) -> str:
    """What a lab is, in words: ``distributed, on the way to secured``; the target last.

    Args:
        topology: as recorded, the last one that was reached.
        target: as recorded; empty when the topology is reached.
    """
    now, then = short_name(topology), short_name(target)
    if not target:
        return now
    return f"on the way to {then}" if topology == target else f"{now}, on the way to {then}"


def short_name(reference: str) -> str:
    """The name of a recorded topology, which may be the path of a file."""
    return Path(reference).stem if Path(reference).is_absolute() else reference


def unfinished(state: State) -> str:
    """How a lab on the way to another topology is completed, or empty."""
    if not state.target:
        return ""
    text = f"the lab is {progress(state.topology, state.target)}; invoke lab.up continues"
    if state.topology == state.target:
        return text
    return f"{text}, invoke lab.up --topology {state.topology} goes back"


def _reached(before: State, target: str) -> str:
    """The topology that a lab on its way to another one has; the target itself for none."""
    return target if before.target == before.topology else before.topology


def _command_with_free_network(lab: Lab) -> str:
    if lab.name != DEFAULT_LAB:
        return "invoke lab.up (finds a free network)"
    try:
        address = free_network(used_networks(lab)).network_address
    except LabError:
        return f"invoke lab.up --network 10.20.30.0/{lab.network.prefixlen}"
    return f"invoke lab.up --network {address}/{lab.network.prefixlen}"


def _next_state(lab: Lab, provider: str, before: State | None) -> State:
    reference = topologies.reference(lab.topology, lab.root)
    initial = State(
        topology=reference,
        target=reference,
        provider=provider,
        network=str(lab.network),
        primary=lab.topology.primary,
        autopromote=lab.topology.autopromote,
    )
    if before is None:
        return initial
    if before.provider not in ("", provider):
        raise LabError(
            f"lab {lab.name} has machines of provider {before.provider}, not {provider}",
            f"invoke lab.up --provider {before.provider}, or first invoke lab.destroy",
        )
    require_primary_in(lab, before)
    same_topology = before.current_topology == reference
    complete = same_topology and not before.target
    reached = reference if complete else _reached(before, reference)
    names = [m.name for m in lab.machines]
    return replace(
        before,
        topology=reached,
        target="" if complete else reference,
        working="" if reached == reference else reference,
        provider=provider,
        network=initial.network,
        primary=before.primary or initial.primary,
        # A new topology sets the initial value; afterwards, db.autopromote does.
        autopromote=before.autopromote if same_topology else initial.autopromote,
        weights={k: v for k, v in before.weights.items() if k in names},
        admin={k: v for k, v in before.admin.items() if k in names},
    )


def require_primary_in(lab: Lab, before: State) -> None:
    """Refuse a topology without a database on the current primary, since its data would be lost.

    Args:
        lab: with the new topology.

    Raises:
        LabError: when there is none; the hint is how to move the data.
    """
    databases = [m.name for m in lab.with_role("mysql")]
    if not before.primary or before.primary in databases:
        return
    what = (
        f"the primary of lab {lab.name} is {before.primary}, which is not a database machine of "
        f"the topology {lab.topology.name} (machines with mysql: {', '.join(databases) or 'none'})"
    )
    up = f"invoke lab.up --topology {lab.topology.name}"
    former = database_machines(before.current_topology, lab.root)
    shared = [name for name in databases if name in former]
    if shared:
        raise LabError(what, f"invoke db.promote {shared[0]}, then {up}")
    raise LabError(
        f"{what}, and no machine has a database in both topologies",
        f"back up and restore the data: invoke db.backup; invoke lab.destroy; {up}; "
        "invoke db.restore FILE",
    )


def database_machines(reference: str, root: Path) -> list[str]:
    """The database machines of a recorded topology; none if its file is gone or invalid."""
    with contextlib.suppress(LabError):
        topology = topologies.load(topologies.find(reference, root))
        return [m.name for m in topology.machines if "mysql" in m.roles]
    return []


def current_balance(lab: Lab, state: State | None) -> Balance:
    """The settings of the load balancer: those set at run time, else the topology's."""
    initial = lab.topology.balance
    if state is None:
        return initial
    return Balance(state.algorithm or initial.algorithm, state.mode or initial.mode)
