"""The DNS resolver of a machine: the lab's name servers precede its original ones."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import ClassVar

from provision.engine.agent.files import PathFacts, path_probe
from provision.engine.agent.protocol import Action, Probe
from provision.engine.plan import Resource, State
from provision.engine.resources.files import write_action

BANNER = "# The lab's name servers, before the original ones."


def nameservers(text: str) -> tuple[str, ...]:
    """The name servers of a resolv.conf(5), in order."""
    rows = (line.split() for line in text.splitlines())
    return tuple(row[1] for row in rows if len(row) > 1 and row[0] == "nameserver")


@dataclass(frozen=True)
class Resolver(Resource[PathFacts]):
    """The lab's name servers at the top of ``/etc/resolv.conf``; nothing else of it changes.

    A symbolic link belongs to another program (systemd-resolved, resolvconf) and is not changed:
    the lab's names are in /etc/hosts as well.

    Args:
        servers: addresses; none removes the lab's name servers from the file.
        network: the lab's; every name server in it is the lab's,
        gateway: except for this one, which machines may have been created with.
    """

    servers: tuple[str, ...]
    network: IPv4Network
    gateway: IPv4Address

    path: ClassVar[str] = "/etc/resolv.conf"

    name: ClassVar[str] = "name servers"

    def probe(self) -> Probe[PathFacts]:
        return path_probe(self.path)

    def _is_lab_server(self, server: str) -> bool:
        try:
            address = IPv4Address(server)
        except ValueError:
            return False
        return address in self.network and address != self.gateway

    def expected(self) -> State:
        return {"servers": " ".join(self.servers) or "none of the lab's"}

    def actual(self, result: PathFacts) -> State:
        if result.type == "link":
            return self.expected()
        servers = nameservers(result.content)
        ours = tuple(server for server in servers if self._is_lab_server(server))
        text = " ".join(ours) or "none of the lab's"
        return {"servers": text if servers[: len(ours)] == ours else f"{text}, not first"}

    @property
    def head(self) -> str:
        """The first lines of the file."""
        return "\n".join([BANNER, *(f"nameserver {s}" for s in self.servers), ""])

    def merged(self, text: str) -> str:
        """The desired text of a file with this text."""
        rest = [
            line
            for line in text.splitlines()
            if line != BANNER and not any(self._is_lab_server(s) for s in nameservers(line))
        ]
        return (self.head if self.servers else "") + "\n".join(rest) + "\n"

    def actions(self, result: PathFacts) -> list[Action]:
        return [write_action(self.path, self.merged(result.content))]
