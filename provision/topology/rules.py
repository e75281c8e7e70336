"""The rules of a topology: every error is collected, so that a file is mended in one go."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from provision.core.lab import Balance, Machine, Topology
from provision.topology.nodes import Node
from provision.topology.values import (
    ALGORITHMS,
    CPUS,
    EXAMPLES,
    HINTS,
    LABEL,
    MACHINE_KEYS,
    MEMORY,
    MODES,
    ROLES,
    SSH_KEYS,
    TAKEN_NAMES,
    TOP_KEYS,
    closest,
    describe,
    fits,
    listed,
    misplaced,
    suggestion,
    understand_network,
)


@dataclass(frozen=True)
class _Draft:
    """A machine as far as it could be understood."""

    name: str
    line: int  # where its roles are
    address: IPv4Address | None
    roles: tuple[str, ...]
    sure: bool  # every role was understood, so a role that is not there is really missing
    memory: int
    cpus: int
    ssh: tuple[tuple[str, str], ...]


class Rules:
    """Checks a whole file; ``errors`` holds what is wrong, with its line.

    A method is the rule of the key (or of the shape) that it is named after: it returns what was
    meant, or None after having reported why that cannot be told.

    Args:
        shown: the file's name in messages.
    """

    def __init__(self, shown: str) -> None:
        self.shown = shown
        self.errors: list[tuple[int, str]] = []

    def wrong(self, line: int, where: str, what: str) -> None:
        place = f"{where}: " if where else ""
        self.errors.append((line, f"{self.shown}:{line}: {place}{what}"))

    # shapes

    def keys(
        self, node: Node, where: str, allowed: Sequence[str] | None, kind: str = ""
    ) -> list[tuple[str, Node, Node]]:
        """The entries of a mapping under the keys that were meant.

        A key said twice or misspelt is reported and its value is kept, so that it is checked too.
        """
        said_keys = {key.text for key, _ in node.entries}
        found: list[tuple[str, Node, Node]] = []
        first: dict[str, int] = {}
        for key, value in node.entries:
            place = f"{where}.{key.text}" if where else key.text
            if key.kind != "text":
                said = repr(key.text) if key.text else "here"
                self.wrong(key.line, where, f"the key {said} is read as {key.kind}; quote it")
            elif key.text in first:
                why = ": one machine is primary, the others follow" if place == "primary" else ""
                self.wrong(key.line, place, f"said twice (first on line {first[key.text]}){why}")
                found.append((key.text, key, value))
            elif allowed is not None and key.text not in allowed:
                owner = where.rpartition(".")[2]
                hint = HINTS.get(f"{kind}.{key.text}" if kind else key.text, "")
                self.wrong(
                    key.line,
                    place,
                    hint.format(machine=owner)
                    or f"no key {key.text!r}{suggestion(key.text, allowed)} "
                    f"(keys: {listed(allowed)})",
                )
                guess = closest(key.text, allowed)
                if guess and not hint and guess not in said_keys:
                    found.append((guess, key, value))
            else:
                first[key.text] = key.line
                found.append((key.text, key, value))
        return found

    def text(self, node: Node, where: str, example: str) -> str | None:
        if node.kind == "text" and node.text.strip():
            return node.text
        got = "empty text" if node.kind == "text" else describe(node)
        self.wrong(node.line, where, f"must be text such as {example}, not {got}")
        return None

    def number(self, node: Node, where: str, limits: tuple[int, int], unit: str) -> int | None:
        low, high = limits
        if node.kind != "a number" or not re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", node.text):
            must = f"must be a whole number from {low} to {high}{unit}, not {describe(node)}"
            self.wrong(node.line, where, must)
            return None
        value = int(node.text)
        if not low <= value <= high:
            self.wrong(node.line, where, f"{value} is not from {low} to {high}{unit}")
            return None
        return value

    def word(self, node: Node, where: str, words: Sequence[str], noun: str) -> str | None:
        if node.kind == "text" and node.text in words:
            return node.text
        said = repr(node.text) if node.text else describe(node)
        hint = suggestion(node.text, words)
        self.wrong(node.line, where, f"no {noun} {said}{hint} ({noun}s: {listed(words)})")
        return None

    def mapping(self, node: Node, where: str, example: str) -> bool:
        if node.kind == "a mapping" and node.entries:
            return True
        got = "an empty one" if node.kind == "a mapping" else describe(node)
        self.wrong(node.line, where, f"must be a mapping such as {example}, not {got}")
        return False

    # the file

    def topology(self, node: Node, path: Path) -> Topology | None:
        if node.kind == "nothing":
            self.wrong(1, "", f"the file is empty; it needs {listed(TOP_KEYS)}")
            return None
        if not self.mapping(node, "", "'domain: foobar.com'"):
            return None
        entries = self.keys(node, "", TOP_KEYS)
        given = {key for key, _, _ in entries}
        for key in ("domain", "network", "machines"):
            if key not in given:
                self.wrong(node.line, key, f"is missing ({EXAMPLES[key]})")

        domain: str | None = None
        network: IPv4Network | None = None
        balance: Balance | None = None
        primary: tuple[str, int] | None = None
        https = (0, False)
        automatic = (0, False)
        ssh_from: list[IPv4Network] = []
        virtual: tuple[int, IPv4Address | None] = (0, None)
        drafts: list[_Draft] = []
        last = ("virtual_address", "machines")  # the network comes first
        entries.sort(key=lambda entry: last.index(entry[0]) if entry[0] in last else -1)
        for name, _, value in entries:
            if name == "domain":
                domain = domain or self.domain(value)
            elif name == "network":
                network = network or self.network(value)
            elif name == "balance":
                balance = balance or self.balance(value)
            elif name == "primary":
                primary = primary or self.primary(value)
            elif name == "https":
                https = (value.line, self.flag(value, "https"))
            elif name == "autopromote":
                automatic = (value.line, self.flag(value, "autopromote"))
            elif name == "ssh_from":
                ssh_from += self.sources(value)
            elif name == "virtual_address":
                virtual = (value.line, self.address(value, "virtual_address", network))
            elif self.mapping(value, "machines", "'web-01: {address: …, roles: […]}'"):
                drafts += self.machines(value, network)
        if drafts:
            place = next(value.line for name, _, value in entries if name == "machines")
            self.together(drafts, primary, place, shared=virtual[0] > 0)
            self.shared(drafts, *virtual)
            if https[1] and all(d.sure and "haproxy" not in d.roles for d in drafts):
                self.wrong(https[0], "https", "no machine has the role haproxy, where TLS ends")
            if automatic[1]:
                self.parties(drafts, automatic[0])
            if "primary" not in given:
                self.unsaid(drafts, node.line)
        if self.errors or domain is None or network is None:
            return None
        machines = tuple(
            Machine(d.name, d.address, d.roles, d.memory, d.cpus, d.ssh)
            for d in drafts
            if d.address is not None
        )
        return Topology(
            path.stem,
            domain,
            network,
            machines,
            primary[0] if primary else "",
            balance or Balance(),
            path,
            https=https[1],
            ssh_from=tuple(ssh_from),
            virtual_address=virtual[1],
            autopromote=automatic[1],
        )

    def flag(self, node: Node, where: str) -> bool:
        if node.kind != "true or false":
            self.wrong(node.line, where, f"must be true or false, not {describe(node)}")
        return node.text.lower() in ("true", "yes", "on")

    def sources(self, node: Node) -> list[IPv4Network]:
        """The networks and addresses of ``ssh_from``."""
        example = "[192.168.56.1] or [10.0.0.0/8]"
        if node.kind != "a list" or not node.items:
            got = "an empty one" if node.kind == "a list" else describe(node)
            self.wrong(node.line, "ssh_from", f"must be a list such as {example}, not {got}")
            return []
        found = []
        for index, item in enumerate(node.items):
            place = f"ssh_from[{index}]"
            try:
                found.append(IPv4Network(self.text(item, place, "192.168.56.0/24") or "0.0.0.0"))
            except ValueError:
                what = f"{item.text!r} is neither an IPv4 address nor a network, such as {example}"
                self.wrong(item.line, place, what)
        return found

    def domain(self, node: Node) -> str | None:
        text = self.text(node, "domain", "foobar.com")
        if text is None:
            return None
        labels = text.split(".")
        if len(labels) < 2 or len(text) > 249 or not all(LABEL.fullmatch(x) for x in labels):
            self.wrong(
                node.line,
                "domain",
                f"{text!r} is not a domain name: two or more labels of a-z, 0-9 and '-', "
                "such as foobar.com",
            )
            return None
        return text

    def network(self, node: Node) -> IPv4Network | None:
        text = self.text(node, "network", "192.168.56.0/24")
        if text is None:
            return None
        network, problem = understand_network(text)
        if problem:
            self.wrong(node.line, "network", problem)
        return network

    def balance(self, node: Node) -> Balance | None:
        if not self.mapping(node, "balance", "'algorithm: roundrobin'"):
            return None
        values = {"algorithm": Balance.algorithm, "mode": Balance.mode}
        words = {"algorithm": ALGORITHMS, "mode": MODES}
        for name, _, value in self.keys(node, "balance", tuple(words)):
            values[name] = self.word(value, f"balance.{name}", words[name], name) or values[name]
        return Balance(values["algorithm"], values["mode"])

    def primary(self, node: Node) -> tuple[str, int] | None:
        if node.kind == "a list":
            found = ", ".join(item.text for item in node.items) or "none"
            self.wrong(
                node.line,
                "primary",
                f"one machine is primary, not a list ({found}): the others are its replicas",
            )
            return None
        text = self.text(node, "primary", "web-01")
        return None if text is None else (text, node.line)

    # machines

    def machines(self, node: Node, network: IPv4Network | None) -> list[_Draft]:
        drafts: list[_Draft] = []
        seen: dict[str, int] = {}
        owner: dict[IPv4Address, str] = {}
        for name, key, value in self.keys(node, "machines", None):
            self.name(name, key.line)
            draft = self.machine(name, key.line, value, network)
            if name in seen:
                continue  # reported as said twice; its own errors are reported too
            seen[name] = key.line
            drafts.append(draft)
            if draft.address is None:
                continue
            if draft.address in owner:
                line = next(v.line for k, v in value.entries if k.text == "address")
                taken = f"{draft.address} is already the address of {owner[draft.address]}"
                self.wrong(line, f"machines.{name}.address", taken)
            owner.setdefault(draft.address, name)
        return drafts

    def name(self, name: str, line: int) -> None:
        where = f"machines.{name}"
        if not LABEL.fullmatch(name) or name.isdigit():
            self.wrong(
                line,
                where,
                "a machine's name has only a-z, 0-9 and '-', not '-' at an end, and not only "
                "digits (RFC 1123)",
            )
        if len(name) > 15:
            self.wrong(line, where, f"the name has {len(name)} characters; at most 15 fit")
        if name in TAKEN_NAMES:
            self.wrong(line, where, f"{name!r} already means something else; call it web-01")

    def machine(self, name: str, line: int, node: Node, network: IPv4Network | None) -> _Draft:
        where = f"machines.{name}"
        address: IPv4Address | None = None
        roles: list[str] = []
        sure = False
        memory, cpus = Machine.memory, Machine.cpus
        ssh: tuple[tuple[str, str], ...] = ()
        if self.mapping(node, where, "{address: 192.168.56.11, roles: [nginx]}"):
            entries = self.keys(node, where, MACHINE_KEYS, "machines")
            given = {key for key, _, _ in entries} | {key.text for key, _ in node.entries}
            for needed in ("address", "roles"):
                if needed not in given and not (needed == "roles" and "role" in given):
                    self.wrong(line, f"{where}.{needed}", f"is missing ({EXAMPLES[needed]})")
            for key, key_node, value in entries:
                place = f"{where}.{key}"
                if key == "address":
                    address = self.address(value, place, network) or address
                elif key == "roles":
                    line = key_node.line
                    found, sure = self.roles(value, place)
                    roles += [role for role in found if role not in roles]
                elif key == "memory":
                    memory = self.number(value, place, MEMORY, " MiB") or memory
                elif key == "cpus":
                    cpus = self.number(value, place, CPUS, "") or cpus
                elif self.mapping(value, place, "{address: 203.0.113.7, user: debian}"):
                    ssh = self.ssh(value, place)
        return _Draft(name, line, address, tuple(roles), sure, memory, cpus, ssh)

    def address(self, node: Node, where: str, network: IPv4Network | None) -> IPv4Address | None:
        text = self.text(node, where, "192.168.56.11")
        if text is None:
            return None
        try:
            address = IPv4Address(text)
        except ValueError:
            self.wrong(node.line, where, f"{text!r} is not an IPv4 address such as 192.168.56.11")
            return None
        if network is not None:
            problem = misplaced(address, network)
            if problem:
                first, last = network.network_address + 2, network.broadcast_address - 1
                self.wrong(node.line, where, f"{address} {problem}; use {first} to {last}")
                return address if address in network else None
        return address

    def roles(self, node: Node, where: str) -> tuple[list[str], bool]:
        """The roles that are meant, and whether all of them were understood."""
        if node.kind != "a list" or not node.items:
            got = "an empty one" if node.kind == "a list" else describe(node)
            self.wrong(node.line, where, f"must be a list such as [nginx, app], not {got}")
            return ([node.text] if node.text in ROLES else []), False
        meant: list[str] = []
        sure = True
        for index, item in enumerate(node.items):
            place = f"{where}[{index}]"
            role = self.word(item, place, ROLES, "role")
            if role is None:  # go on with what was meant, so that one slip is one error
                guess = closest(item.text, ROLES)
                meant += [guess] if guess else []
                sure = sure and bool(guess)
            elif role in meant:
                self.wrong(item.line, place, f"the role {role} is named twice")
            else:
                meant.append(role)
        return meant, sure

    def ssh(self, node: Node, where: str) -> tuple[tuple[str, str], ...]:
        found: dict[str, str] = {}
        for key, _, value in self.keys(node, where, SSH_KEYS):
            place = f"{where}.{key}"
            if key == "port":
                port = self.number(value, place, (1, 65535), "")
                if port is not None:
                    found[key] = str(port)
                continue
            example = EXAMPLES[f"ssh.{key}"]
            text = self.text(value, place, example)
            if text is None:
                continue
            if not fits(key, text):
                self.wrong(value.line, place, f"{text!r} will not do; it looks like {example}")
                continue
            found[key] = text
        return tuple((key, found[key]) for key in SSH_KEYS if key in found)

    # rules that need all machines

    def together(
        self,
        drafts: Sequence[_Draft],
        primary: tuple[str, int] | None,
        line: int,
        *,
        shared: bool,
    ) -> None:
        """What the machines must be to each other: who needs whom, who may not share what."""

        def with_role(role: str) -> list[_Draft]:
            return [d for d in drafts if role in d.roles]

        def complain(draft: _Draft, what: str) -> None:
            self.wrong(draft.line, f"machines.{draft.name}.roles", what)

        balancers = with_role("haproxy")
        if len(balancers) > 1 and not shared:
            complain(
                balancers[1],
                f"two balancers ({listed(d.name for d in balancers)}) need an address that they "
                "share: say 'virtual_address: 192.168.56.100' at the top",
            )
        for draft in balancers:
            if "nginx" in draft.roles:
                complain(draft, "haproxy and nginx both want port 80: use two machines")

        if all(d.sure for d in drafts):
            if balancers and not with_role("nginx"):
                complain(balancers[0], "no web server behind the balancer: no machine has nginx")
            elif not with_role("nginx"):
                self.wrong(line, "machines", "nobody serves the site: no machine has nginx")
            if with_role("nginx") and not with_role("app"):
                complain(with_role("nginx")[0], "nginx has nothing to pass to: no machine has app")
            if with_role("app") and not with_role("mysql"):
                complain(with_role("app")[0], "app has no database: no machine has mysql")
        if primary is not None:
            self.writer(drafts, *primary)

    def shared(self, drafts: Sequence[_Draft], line: int, address: IPv4Address | None) -> None:
        """Whether the virtual address is nobody's own, and who holds it."""
        for draft in drafts:
            where = f"machines.{draft.name}.roles"
            balances, holds = "haproxy" in draft.roles, "keepalived" in draft.roles
            if holds and not line:
                self.wrong(draft.line, where, "keepalived has no 'virtual_address' to hold")
            elif holds and not balances and draft.sure:
                what = "keepalived holds the address for haproxy, which this machine does not have"
                self.wrong(draft.line, where, what)
            elif balances and line and not holds and draft.sure:
                what = "a balancer that shares the virtual address needs the role keepalived too"
                self.wrong(draft.line, where, what)
            if address is not None and draft.address == address:
                taken = f"{address} is the address of {draft.name}; take one that no machine has"
                self.wrong(line, "virtual_address", taken)
        if line and all(d.sure and "haproxy" not in d.roles for d in drafts):
            self.wrong(line, "virtual_address", "no machine has the role haproxy to share it")

    def parties(self, drafts: Sequence[_Draft], line: int) -> None:
        """Whether there are the three machines that a promotion without a human takes."""
        if not all(d.sure for d in drafts):
            return
        databases = [d.name for d in drafts if "mysql" in d.roles]
        thirds = [d for d in drafts if "haproxy" in d.roles and d.name not in databases]
        if len(databases) != 2 or not thirds:
            found = listed(databases) or "none"
            self.wrong(
                line,
                "autopromote",
                "takes two databases and a balancer on a machine of its own, a majority of three "
                f"(machines with mysql: {found})",
            )

    def unsaid(self, drafts: Sequence[_Draft], line: int) -> None:
        """Whether a primary would have had to be named."""
        database = next((d.name for d in drafts if "mysql" in d.roles), "")
        if database:
            which = f"say which mysql machine takes the writes, such as 'primary: {database}'"
            self.wrong(line, "primary", f"is missing: {which}")

    def writer(self, drafts: Sequence[_Draft], name: str, where: int) -> None:
        """Whether the primary is a database machine."""
        databases = [d.name for d in drafts if "mysql" in d.roles]
        sure = all(d.sure for d in drafts)
        draft = next((d for d in drafts if d.name == name), None)
        choice = f" (machines with mysql: {listed(databases)})" if databases else ""
        if draft is None:
            hint = suggestion(name, [d.name for d in drafts])
            self.wrong(where, "primary", f"no machine {name!r}{hint}{choice}")
        elif databases and "mysql" not in draft.roles and draft.sure:
            self.wrong(where, "primary", f"{name} does not have the role mysql{choice}")
        elif not databases and sure:
            self.wrong(where, "primary", "no machine has the role mysql: leave 'primary' out")
