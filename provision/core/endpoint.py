"""How a machine is reached over SSH."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Endpoint:
    """How a machine is reached over SSH.

    Args:
        address: host name or address to connect to.
        port: TCP port of sshd.
        user: a user who may ``sudo -n``.
        key: the private key's file.
        host_key: the machine's public host key, ``ssh-ed25519 AAAA…``; nothing else is accepted.
        jump: ``user@host:port`` of a jump host, or empty.
        agent: whether keys of a running SSH agent may be offered too.
        jump_key: the private key's file for the jump host, when it is another one.
        jump_host_key: the jump host's public host key; nothing else is accepted there either.
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
