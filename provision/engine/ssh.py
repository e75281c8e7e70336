"""SSH connections to machines, with pinned host keys: the one module that uses Fabric.

Fabric and Paramiko are imported with the first connection: many commands make none.
"""

from __future__ import annotations

import base64
import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provision.core.endpoint import Endpoint
from provision.core.errors import HostError, HostKeyError
from provision.core.waiting import timeout_factor

if TYPE_CHECKING:
    import paramiko

# The exception describes a lost connection; Paramiko's log repeats it.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

CONNECT_TIMEOUT = 10 * timeout_factor()
"""Seconds for TCP and for SSH's banner and authentication."""

KEEPALIVE = (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 4))


def connect(name: str, endpoint: Endpoint) -> Any:
    """Log in to a machine.

    Args:
        name: of the machine, for messages.

    Returns:
        An open Fabric connection.

    Raises:
        HostKeyError: when it presents another host key than the pinned one.
        HostError: when it is unreachable, unknown, or refuses the login.
    """
    import paramiko

    end = endpoint
    gateway = jump(end) if end.jump else None
    connection = _connection(end, end.address, end.port, end.user, end.key, end.host_key, gateway)
    try:
        connection.open()
    except paramiko.BadHostKeyException as error:
        raise HostKeyError(
            f"{name}: the machine at {end.address} presents another host key "
            f"({_fingerprint(error.key)}) than the pinned one "
            f"({_fingerprint(error.expected_key)}); nothing was sent to it",
            f"invoke lab.trust {name} compares it with the machine's own key, and pins it",
        ) from None
    except paramiko.AuthenticationException as error:
        raise HostError(
            f"{name}: login as {end.user} with key {end.key} was refused ({error})",
            f"invoke lab.rescue {name} --fix restores access",
        ) from None
    except paramiko.SSHException as error:
        if "not found in known_hosts" in str(error):
            raise HostError(
                f"{name}: no host key is pinned for {end.address}, and unknown keys are refused",
                f"invoke lab.trust {name}",
            ) from None
        raise _unreachable(name, end, error) from None
    except (OSError, EOFError) as error:
        raise _unreachable(name, end, error) from None
    _tune(connection.transport.sock)
    return connection


def jump(endpoint: Endpoint) -> Any:
    """A Fabric connection to an endpoint's jump host, not opened; its host key is pinned too."""
    user, _, rest = endpoint.jump.rpartition("@")
    host, _, port = rest.partition(":")
    key = endpoint.jump_key or endpoint.key
    return _connection(endpoint, host, int(port or 22), user, key, endpoint.jump_host_key, None)


def _connection(
    endpoint: Endpoint, address: str, port: int, user: str, key: Path, host_key: str, gateway: Any
) -> Any:
    """A connection that accepts one host key, and reads none of the user's SSH configuration."""
    import paramiko
    from fabric import Config, Connection

    connection = Connection(
        address,
        user=user or endpoint.user,
        port=port,
        config=Config(overrides={"load_ssh_configs": False}, lazy=True),
        gateway=gateway,
        connect_timeout=CONNECT_TIMEOUT,
        connect_kwargs={
            "key_filename": str(key),
            "look_for_keys": False,
            "allow_agent": endpoint.agent,
            "banner_timeout": CONNECT_TIMEOUT,
            "auth_timeout": CONNECT_TIMEOUT,
        },
    )
    # Fabric accepts any host key by default.
    connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
    if host_key:
        kind, text = host_key.split()[:2]
        name = address if port == 22 else f"[{address}]:{port}"
        pinned = paramiko.PKey.from_type_string(kind, base64.b64decode(text))
        connection.client.get_host_keys().add(name, kind, pinned)
    return connection


def _unreachable(name: str, endpoint: Endpoint, error: BaseException) -> HostError:
    where = f"{endpoint.address} port {endpoint.port}"
    return HostError(
        f"{name}: no SSH connection to {where} ({error or type(error).__name__})",
        f"invoke lab.rescue {name} --fix restores access",
    )


def _tune(sock: Any) -> None:
    """Disable Nagle's delay (a command takes 4 ms instead of 48), and detect a dead peer."""
    if not isinstance(sock, socket.socket):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 13_000)


def _fingerprint(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.fingerprint}"
