"""How a machine is reached over SSH."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Endpoint:
    """Address, credentials and pinned host key of a machine.

    Args:
        address: a host name or an address.
        user: may run ``sudo -n``.
        host_key: ``ssh-ed25519 AAAA…``; any other host key is refused.
        jump: ``user@host:port`` of a jump host, or empty.
        agent: whether keys of a running SSH agent may be used, too.
        jump_key: the private key for the jump host; by default the same.
        jump_host_key: any other host key of the jump host is refused.
    """

    address: str
    port: int
    user: str
    key: Path
    host_key: str
    jump: str = ""
    agent: bool = False
    jump_key: Path | None = None
    jump_host_key: str = ""
