"""Whom a machine asks for names: the lab's name servers before those that it had."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any, ClassVar

from provision.engine.plan import Answer, Resource, State

BANNER = "# The lab's name servers come first; the others are those that were here before."


def nameservers(text: str) -> tuple[str, ...]:
    """The servers of a resolv.conf(5), in their order."""
    rows = (line.split() for line in text.splitlines())
    return tuple(row[1] for row in rows if len(row) > 1 and row[0] == "nameserver")


@dataclass(frozen=True)
class Resolver(Resource):
    """The lab's name servers at the top of ``/etc/resolv.conf``; nothing else of it changes.

    A file that is a link belongs to another program (systemd-resolved, resolvconf) and is left
    alone: /etc/hosts knows the lab's names as well.

    Args:
        servers: addresses; none takes the lab's out of the file.
        network: the lab's; addresses in it were put there by the lab,
        gateway: except for this one, which machines may have been made with.
    """

    servers: tuple[str, ...]
    network: IPv4Network
    gateway: IPv4Address

    kind: ClassVar[str] = "path"
    path: ClassVar[str] = "/etc/resolv.conf"

    @property
    def name(self) -> str:
        """``name servers``."""
        return "name servers"

    def question(self) -> dict[str, Any]:
        """The file."""
        return {"path": self.path, "secret": False}

    def _ours(self, server: str) -> bool:
        try:
            address = IPv4Address(server)
        except ValueError:
            return False
        return address in self.network and address != self.gateway

    def expected(self) -> State:
        """The lab's servers, first."""
        return {"servers": " ".join(self.servers) or "none of the lab's"}

    def actual(self, answer: Answer) -> State:
        """Those of the lab that come first; out of order counts as wrong."""
        if answer["type"] == "link":
            return self.expected()
        found = nameservers(answer.get("content", ""))
        ours = [server for server in found if self._ours(server)]
        first = list(found[: len(ours)])
        shown = " ".join(ours) or "none of the lab's"
        return {"servers": shown if first == ours else f"{shown}, not first"}

    @property
    def head(self) -> str:
        """The lines that the file begins with."""
        return "\n".join([BANNER, *(f"nameserver {s}" for s in self.servers), ""])

    def text(self, before: str) -> str:
        """The file as it should be.

        Args:
            before: the file as it is.
        """
        rest = [
            line
            for line in before.splitlines()
            if line != BANNER and not any(self._ours(s) for s in nameservers(line))
        ]
        return (self.head if self.servers else "") + "\n".join(rest) + "\n"

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Write it in one step."""
        content = self.text(answer.get("content", ""))
        return [
            {
                "do": "write",
                "path": self.path,
                "content": base64.b64encode(content.encode()).decode(),
                "owner": "root",
                "group": "root",
                "mode": "0644",
            }
        ]
