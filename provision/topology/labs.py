"""Which lab is meant: its name, its topology and its network, put together into a Lab.

Opening a lab writes nothing. `record` writes what was decided when the lab comes up, and
`write_access` what plain ``ssh`` needs to reach its machines.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from provision import topology as topologies
from provision.core import state as record_of
from provision.core.endpoint import Endpoint
from provision.core.errors import LabError, UsageError
from provision.core.lab import ROOT, Balance, Lab, Topology, rebase
from provision.core.state import State

DEFAULT = "default"
POOL = IPv4Network("192.168.56.0/21")
"""Where labs look for a network: VirtualBox allows host-only networks only here by default
(its manual, section 6.7)."""

HOST = Path("/var/lib/foobar-lab")
"""Where labs of other checkouts on this host say, in ``*/network``, which network they use."""

ROUTES = Path("/proc/net/route")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,14}")


def labs(root: Path = ROOT) -> tuple[str, ...]:
    """The labs of a checkout that were brought up, by name, sorted."""
    found = (root / ".lab").glob(f"*/{record_of.FILE}")
    return tuple(sorted(p.parent.name for p in found if _NAME.fullmatch(p.parent.name)))


def open_lab(
    name: str = DEFAULT,
    *,
    topology: str | None = None,
    network: str | None = None,
    root: Path = ROOT,
    stay: bool = False,
) -> tuple[Lab, State | None]:
    """The lab of that name, and its record when it was brought up before.

    Args:
        name: 1 to 15 of a-z, 0-9 and ``-``.
        topology: a name or a path; without it the recorded one, then the environment's
            ``LAB_TOPOLOGY``, then ``distributed``.
        network: such as ``10.1.2.0/24``; without it the recorded one, then the one that machines
            of this lab are on, then the topology's own for the lab ``default``, then a free part
            of `POOL`.
        root: the checkout.
        stay: whether the machines exist already, so that the topology's addresses hold for any
            lab; they do too when the topology says how a machine is reached (``ssh:``).

    Raises:
        UsageError: for a malformed name or network, or another network than the recorded one.
        TopologyError: when the topology does not exist or is wrong.
        LabError: when the record is damaged, or no network is free.
    """
    if not _NAME.fullmatch(name):
        known = ", ".join(labs(root))
        raise UsageError(
            f"{name!r} cannot be the name of a lab: 1 to 15 of a-z, 0-9 and '-', no '-' first",
            f"labs there are: {known}" if known else "leave --lab out, or take a name such as two",
        )
    directory = root / ".lab" / name
    state = record_of.load(directory)
    wanted = topology or (state.topology if state else "")
    wanted = wanted or os.environ.get("LAB_TOPOLOGY", "") or "distributed"
    read = topologies.load(topologies.find(wanted, root))
    place = _network(Lab(name, root, read), state, network, stay)
    return Lab(name, root, rebase(read, place)), state


def _network(lab: Lab, state: State | None, option: str | None, stay: bool) -> IPv4Network:
    """The network that the lab has, is told to have, or gets."""
    own = lab.topology.network
    asked = _asked(option, lab)
    if state is not None and state.network:
        recorded = IPv4Network(state.network)
        if asked is not None and asked != recorded:
            raise UsageError(
                f"lab {lab.name} is on {recorded}; its machines cannot move to {asked}",
                f"{record_of.up(lab.directory, 'lab.destroy')}, then give --network {asked}",
            )
        _room(recorded, lab, record_of.up(lab.directory, "lab.destroy"))
        return recorded
    if asked is not None:
        for other, taken in _recorded(lab).items():
            if asked.overlaps(taken):
                raise UsageError(
                    f"the network {asked} overlaps {taken}, which lab {other} uses",
                    "leave --network out to get a free one",
                )
        return asked
    if stay or any(machine.ssh for machine in lab.machines):
        return own
    left = _noted(HOST / lab.id / "network")
    if left is not None and left.prefixlen <= own.prefixlen:
        return left  # its machines are there, only its record is lost
    if lab.name == DEFAULT:
        return own
    # The default lab may come up later, so its usual place is left to it.
    place = free_network([own, *taken_networks(lab)])
    return IPv4Network((place.network_address, own.prefixlen))


def _asked(option: str | None, lab: Lab) -> IPv4Network | None:
    if not option:
        return None
    network, problem = topologies.understand_network(option)
    if network is None or problem:
        raise UsageError(f"--network: {problem}", "such as --network 192.168.60.0/24")
    _room(network, lab, f"such as --network {network.network_address}/{lab.network.prefixlen}")
    return network


def _room(network: IPv4Network, lab: Lab, advice: str) -> None:
    """Whether the topology's host numbers fit."""
    if network.prefixlen > lab.topology.network.prefixlen:
        raise UsageError(
            f"the network {network} is too small for the topology {lab.topology.name}, which is "
            f"laid out on a /{lab.topology.network.prefixlen}",
            advice,
        )


def free_network(taken: Iterable[IPv4Network]) -> IPv4Network:
    """The first /24 of `POOL` that overlaps nothing that is taken.

    Raises:
        LabError: when there is none.
    """
    used = list(taken)
    for candidate in POOL.subnets(new_prefix=24):
        if not any(candidate.overlaps(network) for network in used):
            return candidate
    raise LabError(
        f"no part of {POOL} is free for another lab",
        "remove a lab (invoke lab.destroy --lab NAME), or give --network 10.20.30.0/24",
    )


def taken_networks(lab: Lab) -> tuple[IPv4Network, ...]:
    """What is in use on this host: by other labs, of any checkout, and by the host's own routes."""
    found = list(_recorded(lab).values())
    found += [n for n in map(_noted, sorted(HOST.glob("*/network"))) if n is not None]
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            found += parse_routes(ROUTES.read_text(encoding="utf-8"))
    return tuple(found)


def _noted(path: Path) -> IPv4Network | None:
    """The network in a file of `HOST`; None when unreadable: its route shows it when it is up."""
    try:
        return IPv4Network(path.read_text(encoding="utf-8").strip(), strict=False)
    except (OSError, ValueError):
        return None


def parse_routes(text: str) -> tuple[IPv4Network, ...]:
    """The networks of the kernel's ``/proc/net/route``, without the ways to everywhere.

    Addresses are the kernel's big-endian words, printed as numbers of this processor. Routes wider
    than /8 are default routes (a VPN splits its own in two halves), which a lab's overrides.
    """
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) < 8:
            continue
        try:
            target, mask = (int(words[i], 16).to_bytes(4, sys.byteorder) for i in (1, 7))
            network = IPv4Network((target, int.from_bytes(mask, "big").bit_count()), strict=False)
        except (ValueError, OverflowError):
            continue
        if network.prefixlen >= 8:
            found.append(network)
    return tuple(found)


def _recorded(lab: Lab) -> dict[str, IPv4Network]:
    """The networks of the checkout's other labs; a damaged record is its own lab's problem."""
    found = {}
    for name in labs(lab.root):
        try:
            state = record_of.load(lab.root / ".lab" / name) if name != lab.name else None
        except LabError:
            continue
        if state is not None and state.network:
            found[name] = IPv4Network(state.network)
    return found


# --- the record ----------------------------------------------------------------------------------


def record(lab: Lab, provider: str) -> State:
    """Write down that the lab is brought up like this; what was decided at run time is kept.

    Call it under the lab's lock, before the first machine is made.

    Args:
        lab: from `open_lab`.
        provider: the provider's name.

    Raises:
        LabError: when the lab exists with another provider, when the topology has no database on
            the machine that is primary now, or when another lab has taken the network meanwhile.
    """
    with (
        record_of.guard(lab.root / ".lab" / ".lock"),
        record_of.guard(lab.directory / ".state.lock"),
    ):
        before = record_of.load(lab.directory)
        for other, taken in _recorded(lab).items():
            if lab.network.overlaps(taken):
                raise LabError(
                    f"lab {lab.name} cannot be on {lab.network}: lab {other} uses {taken}",
                    _elsewhere(lab),
                )
        state = _next(lab, provider, before)
        if state != before:
            record_of.save(lab.directory, state)
    return state


def _elsewhere(lab: Lab) -> str:
    """The command that brings a lab up where there is room."""
    again = record_of.up(lab.directory)
    if lab.name != DEFAULT:
        return f"{again} (the same again finds a free network)"
    try:
        place = free_network(taken_networks(lab)).network_address
    except LabError:
        return f"{again} --network 10.20.30.0/{lab.network.prefixlen}"
    return f"{again} --network {place}/{lab.network.prefixlen}"


def _next(lab: Lab, provider: str, before: State | None) -> State:
    """The record of the lab as it comes up now, from the one before."""
    now = State(
        topology=source(lab.topology, lab.root),
        provider=provider,
        network=str(lab.network),
        primary=lab.topology.primary,
        autopromote=lab.topology.autopromote,
    )
    if before is None:
        return now
    destroy = record_of.up(lab.directory, "lab.destroy")
    if before.provider not in ("", provider):
        raise LabError(
            f"lab {lab.name} has machines of {before.provider}; {provider} cannot take them over",
            f"{record_of.up(lab.directory)} --provider {before.provider}, or first {destroy}",
        )
    names = [m.name for m in lab.machines]
    keeps_data(lab, before)
    return replace(
        before,
        topology=now.topology,
        provider=provider,
        network=now.network,
        primary=before.primary or now.primary,
        # A new design says how it begins; within one, db.autopromote has decided.
        autopromote=before.autopromote if before.topology == now.topology else now.autopromote,
        weights={k: v for k, v in before.weights.items() if k in names},
        admin={k: v for k, v in before.admin.items() if k in names},
    )


def keeps_data(lab: Lab, before: State) -> None:
    """Whether the machine that has the data now is a database machine of the lab to come.

    Args:
        lab: as it shall be.
        before: what is recorded of it.

    Raises:
        LabError: when it is not; the message says how the data gets to one that is.
    """
    there = [m.name for m in lab.with_role("mysql")]
    if not before.primary or before.primary in there:
        return
    what = (
        f"the data of lab {lab.name} is written on {before.primary}, which is no database "
        f"machine in the topology {lab.topology.name} (there: {', '.join(there) or 'none'})"
    )
    up = record_of.up(lab.directory)
    had = _databases(before, lab.root)
    shared = [name for name in there if name in had]
    if shared:
        promote = record_of.up(lab.directory, f"db.promote {shared[0]}")
        raise LabError(what, f"{promote}, then {up} --topology {lab.topology.name}")
    backup = record_of.up(lab.directory, "db.backup")
    destroy = record_of.up(lab.directory, "lab.destroy")
    restore = record_of.up(lab.directory, "db.restore FILE")
    raise LabError(
        f"{what}, and no machine has a database in both",
        f"keep it in a file and bring it back: {backup}; {destroy}; "
        f"{up} --topology {lab.topology.name}; {restore}",
    )


def _databases(state: State, root: Path) -> list[str]:
    """The database machines of the recorded topology, as far as it can still be read."""
    with contextlib.suppress(LabError):
        read = topologies.load(topologies.find(state.topology, root))
        return [m.name for m in read.machines if "mysql" in m.roles]
    return []


def source(topology: Topology, root: Path) -> str:
    """How a topology is found again: its name, or its file's path when it lies elsewhere."""
    path = topology.path.absolute()
    here = root.absolute() / "configs" / "topologies"
    return path.stem if path.parent == here and path.suffix == ".yml" else str(path)


def balance(lab: Lab, state: State | None) -> Balance:
    """How requests are spread now: as chosen at run time, else as the topology says."""
    usual = lab.topology.balance
    if state is None:
        return usual
    return Balance(state.algorithm or usual.algorithm, state.mode or usual.mode)


# --- plain ssh -----------------------------------------------------------------------------------


def ssh_config(lab: Lab, endpoints: Mapping[str, Endpoint]) -> str:
    """The text of an ssh configuration with a ``Host`` a machine (ssh_config(5)).

    Host keys are pinned by machine name, so a port or address that changes does not matter; a key
    that is not the recorded one is refused.
    """
    pins = _quoted(lab.directory.absolute() / "known_hosts")
    parts = [f"# Written by lab.up for lab {lab.name}. Use: ssh -F {_shown(lab)} MACHINE\n"]
    for name, endpoint in _ordered(lab, endpoints):
        lines = [
            f"Host {name}",
            f"  HostName {endpoint.address}",
            f"  Port {endpoint.port}",
            f"  User {endpoint.user}",
            f"  IdentityFile {_quoted(endpoint.key.expanduser().absolute())}",
            "  IdentitiesOnly yes",
            f"  HostKeyAlias {name}",
            f"  UserKnownHostsFile {pins}",
            "  GlobalKnownHostsFile /dev/null",
            "  StrictHostKeyChecking yes",
            "  LogLevel ERROR",
        ]
        if endpoint.jump:
            lines.append(f"  ProxyJump {endpoint.jump}")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def known_hosts(lab: Lab, endpoints: Mapping[str, Endpoint]) -> str:
    """The text of a known_hosts file: machine name and host key, a line a machine (sshd(8))."""
    lines = []
    for name, endpoint in _ordered(lab, endpoints):
        kind, key = endpoint.host_key.split()[:2]
        lines.append(f"{name} {kind} {key}\n")
    return "".join(lines)


def write_access(lab: Lab, endpoints: Mapping[str, Endpoint]) -> Path:
    """Write ``known_hosts`` and ``ssh_config`` into the lab's directory.

    For the lab ``default``, ``.lab/ssh_config`` includes the latter, so that ``ssh -F
    .lab/ssh_config web-01`` reaches its machines.

    Returns:
        The file for ``ssh -F``.

    Raises:
        LabError: when a file cannot be written.
    """
    config = lab.directory.absolute() / "ssh_config"
    record_of.write(config.with_name("known_hosts"), known_hosts(lab, endpoints), 0o644)
    record_of.write(config, ssh_config(lab, endpoints), 0o644)
    if lab.name == DEFAULT:
        include = f"Include {_quoted(config, tokens=False)}"
        text = f"# Written by lab.up: the machines of lab {lab.name}.\n{include}\n"
        record_of.write(config.parent.parent / "ssh_config", text, 0o644)
    return config


def _ordered(lab: Lab, endpoints: Mapping[str, Endpoint]) -> list[tuple[str, Endpoint]]:
    order = [m.name for m in lab.machines]
    return [(name, endpoints[name]) for name in order if name in endpoints]


def _quoted(path: Path, *, tokens: bool = True) -> str:
    """A path for ssh_config(5), quoted for spaces; ``%`` is doubled where it starts a token."""
    text = path.as_posix().replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text.replace("%", "%%") if tokens else text}"'


def _shown(lab: Lab) -> str:
    path = lab.directory / "ssh_config"
    return shlex.quote(path.relative_to(lab.root).as_posix())


def erase(lab: Lab) -> None:
    """Remove a lab's directory, with its state and its secrets, once its machines are gone."""
    shutil.rmtree(lab.directory, ignore_errors=True)
    if lab.name == DEFAULT:
        (lab.root / ".lab" / "ssh_config").unlink(missing_ok=True)
