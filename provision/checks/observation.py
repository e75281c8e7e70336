"""What was seen of a running lab at one moment: asked by ops/observe.py, judged by checks/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from provision.services.tls.https import Shown


@dataclass(frozen=True)
class Page:
    """One answer to a request through the lab's front.

    Args:
        status: HTTP status, 0 when there was no answer.
        headers: in lower case.
        body: the first 64 KiB.
        error: why there was no answer.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    error: str = ""

    def header(self, name: str) -> str:
        """A header's value, or nothing."""
        return self.headers.get(name.lower(), "")


@dataclass(frozen=True)
class Seen:
    """All that was asked of a lab at one moment.

    Args:
        states: the provider's word on each machine.
        answers: by machine, what its agent answered (probes of provision/remote).
        errors: by machine, why it could not be asked.
        rounds: rounds of GET /, one request after the other.
        pages: further requests by name: ``static``, ``missing``, ``marker``.
        named: by name server, the addresses that it gave for the site, or why it gave none.
        tls: what the front's TLS said of itself, in a topology with HTTPS.
    """

    states: Mapping[str, str]
    answers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    rounds: tuple[tuple[Page, ...], ...] = ()
    pages: Mapping[str, Page] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)
    tls: Shown | None = None

    def holds(self, machine: str, address: IPv4Address) -> bool:
        """Whether a machine with the role keepalived has the shared address now."""
        answers = self.answers.get(machine, {}).get("command", [])
        return any(f" {address}/" in answer["out"] for answer in answers)

    def http(self, machine: str, name: str) -> Mapping[str, Any]:
        """What a machine's agent was told by the HTTP question of that name, or nothing."""
        place = self.answers.get(machine, {}).get("names", {}).get(name)
        if place is None:
            return {"status": 0, "headers": {}, "body": "", "error": "not asked"}
        found: Mapping[str, Any] = self.answers[machine]["http"][place]
        return found


def alternates(pages: tuple[Page, ...], servers: int) -> bool:
    """Whether answers came from all servers in turn, the same order again and again."""
    names = [page.header("x-served-by") for page in pages]
    first = names[:servers]
    repeated = first * (len(names) // servers)
    return len(set(first)) == servers and all(names) and names == repeated
