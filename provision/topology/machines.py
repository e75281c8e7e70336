"""Parse and check the machines of a topology, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from provision.core.lab import Machine
from provision.core.roles import role_names
from provision.core.suggestions import closest
from provision.topology import values
from provision.topology.checker import Checker
from provision.topology.nodes import Node

KEYS = ("address", "roles", "memory", "cpus", "ssh")
EXAMPLE = "{address: 192.168.56.11, roles: [nginx]}"


@dataclass
class MachineDraft:
    """The valid values of one machine.

    Args:
        line: of the key ``roles``, else of the machine's name.
        roles_complete: whether all roles were valid, so that a role not among them is absent.
    """

    name: str
    line: int
    address: IPv4Address | None = None
    roles: list[str] = field(default_factory=list)
    roles_complete: bool = False
    memory: int = Machine.memory
    cpus: int = Machine.cpus
    ssh: tuple[tuple[str, str], ...] = ()

    def machine(self) -> Machine | None:
        """The machine; None without a valid address."""
        if self.address is None:
            return None
        roles = tuple(self.roles)
        return Machine(self.name, self.address, roles, self.memory, self.cpus, self.ssh)


def parse_machines(check: Checker, node: Node, network: IPv4Network | None) -> list[MachineDraft]:
    """The machines of ``machines:``; each name once."""
    drafts: dict[str, MachineDraft] = {}
    owners: dict[IPv4Address, str] = {}
    for name, key, value in check.keys(node, "machines"):
        _check_name(check, name, key.line)
        draft = _parse_machine(check, name, key.line, value, network)
        if name in drafts:
            continue  # reported as a duplicate key
        drafts[name] = draft
        if draft.address is None:
            continue
        if draft.address in owners:
            line = next(v.line for k, v in value.entries if k.text == "address")
            what = f"duplicate address {draft.address}, already used by {owners[draft.address]}"
            check.error(line, f"machines.{name}.address", what)
        owners.setdefault(draft.address, name)
    return list(drafts.values())


def _check_name(check: Checker, name: str, line: int) -> None:
    where = f"machines.{name}"
    if not values.LABEL.fullmatch(name) or name.isdigit():
        check.error(
            line,
            where,
            "invalid machine name; expected a-z, 0-9 and '-', without '-' at the start or end, "
            "and not only digits (RFC 1123)",
        )
    if len(name) > values.NAME_LENGTH:
        what = f"the name has {len(name)} characters; at most {values.NAME_LENGTH} are allowed"
        check.error(line, where, what)
    if name in values.RESERVED_NAMES:
        check.error(line, where, f"{name!r} is a reserved name; use one such as web-01")


def _parse_machine(
    check: Checker, name: str, line: int, node: Node, network: IPv4Network | None
) -> MachineDraft:
    draft = MachineDraft(name, line)
    where = f"machines.{name}"
    if not check.mapping(node, where, EXAMPLE):
        return draft
    special = {
        "primary": f"the primary is set once, at the top level: 'primary: {name}'",
        "replica": "a mysql machine that is not the primary is a replica; remove this key",
        "role": "unknown key 'role'; did you mean 'roles', a list such as [nginx]?",
    }
    entries = check.keys(node, where, KEYS, special)
    present = {key for key, _, _ in entries} | {key.text for key, _ in node.entries}
    if "address" not in present:
        check.error(line, f"{where}.address", "missing key; expected 'address: 192.168.56.11'")
    if not present & {"roles", "role"}:
        what = f"missing key; expected 'roles: [nginx]' (roles: {', '.join(role_names())})"
        check.error(line, f"{where}.roles", what)
    for key, key_node, value in entries:
        place = f"{where}.{key}"
        if key == "address":
            draft.address = parse_address(check, value, place, network) or draft.address
        elif key == "roles":
            draft.line = key_node.line
            roles, draft.roles_complete = _parse_roles(check, value, place)
            draft.roles += [role for role in roles if role not in draft.roles]
        elif key == "memory":
            draft.memory = check.integer(value, place, values.MEMORY_MIB, "MiB") or draft.memory
        elif key == "cpus":
            draft.cpus = check.integer(value, place, values.CPUS) or draft.cpus
        elif check.mapping(value, place, "{address: 203.0.113.7, user: debian}"):
            draft.ssh = parse_ssh(check, value, place)
    return draft


def parse_address(
    check: Checker, node: Node, where: str, network: IPv4Network | None
) -> IPv4Address | None:
    """An address that a machine on the network can have."""
    text = check.string(node, where, "192.168.56.11")
    if text is None:
        return None
    try:
        address = IPv4Address(text)
    except ValueError:
        check.invalid(node, where, "an IPv4 address such as 192.168.56.11")
        return None
    problem = values.address_problem(address, network) if network else ""
    if network and problem:
        first, last = network.network_address + 2, network.broadcast_address - 1
        check.error(node.line, where, f"{address} {problem}; use {first} to {last}")
        return address if address in network else None
    return address


def _parse_roles(check: Checker, node: Node, where: str) -> tuple[Sequence[str], bool]:
    """The valid roles, and whether the list is complete."""
    if not check.list(node, where, "[nginx, app]"):
        return ([node.text] if node.text in role_names() else []), False
    roles: list[str] = []
    complete = True
    for index, item in enumerate(node.items):
        place = f"{where}[{index}]"
        role = check.choice(item, place, role_names(), "role")
        if role is None:  # continue with the closest role, so that one mistake is one error
            match = closest(item.text, role_names())
            roles += [match] if match else []
            complete = complete and bool(match)
        elif role in roles:
            check.error(item.line, place, f"duplicate role {role}")
        else:
            roles.append(role)
    return roles, complete


def parse_ssh(check: Checker, node: Node, where: str) -> tuple[tuple[str, str], ...]:
    """How an existing machine is reached, in the order of `values.SSH_KEYS`."""
    settings: dict[str, str] = {}
    for key, _, value in check.keys(node, where, values.SSH_KEYS):
        place = f"{where}.{key}"
        if key == "port":
            port = check.integer(value, place, (1, 65535))
            if port is not None:
                settings[key] = str(port)
            continue
        example = values.SSH_EXAMPLES[key]
        text = check.string(value, place, example)
        if text is None:
            continue
        if values.is_valid_ssh_value(key, text):
            settings[key] = text
        else:
            check.invalid(value, place, f"a value such as {example}")
    return tuple((key, settings[key]) for key in values.SSH_KEYS if key in settings)
