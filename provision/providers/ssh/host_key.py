"""Read the host key that an SSH server presents, and compare it with the pinned one."""

from __future__ import annotations

import base64
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import replace

import paramiko

from provision.core.endpoint import Endpoint
from provision.core.errors import ProviderError
from provision.engine.ssh import CONNECT_TIMEOUT, jump
from provision.providers.ssh.endpoints import public_key_line

SSH_ERRORS = (paramiko.SSHException, OSError, EOFError)
"""What a failed connection raises."""


@contextlib.contextmanager
def transport(endpoint: Endpoint) -> Iterator[paramiko.Transport]:
    """An SSH transport to a machine, through its jump host; the handshake has not been done."""
    with _tcp_socket(endpoint) as sock:
        connection = paramiko.Transport(sock)
        connection.banner_timeout = CONNECT_TIMEOUT
        try:
            yield connection
        finally:
            connection.close()


@contextlib.contextmanager
def _tcp_socket(endpoint: Endpoint) -> Iterator[socket.socket | paramiko.Channel]:
    target = (endpoint.address, endpoint.port)
    if not endpoint.jump:
        with socket.create_connection(target, timeout=CONNECT_TIMEOUT) as sock:
            yield sock
        return
    gateway = jump(endpoint)
    try:
        gateway.open()
        yield gateway.transport.open_channel(
            "direct-tcpip", target, ("", 0), timeout=CONNECT_TIMEOUT
        )
    finally:
        gateway.close()


def presented_key(endpoint: Endpoint) -> paramiko.PKey:
    """The host key that a machine presents; only the SSH handshake is done.

    Raises:
        SSHException, OSError, EOFError: when there is no SSH server.
    """
    with transport(endpoint) as connection:
        if endpoint.host_key:  # a machine has several keys: request the type of the pinned one
            kind = endpoint.host_key.split()[0]
            supported = connection.get_security_options().key_types
            kinds = [k for k in supported if k == kind or (kind == "ssh-rsa" and "rsa" in k)]
            if kinds:
                connection.get_security_options().key_types = kinds
        connection.start_client(timeout=CONNECT_TIMEOUT)
        return connection.get_remote_server_key()


def pin(name: str, endpoint: Endpoint, *, accept: bool) -> Endpoint:
    """The endpoint with the host key that its machine presents.

    Args:
        accept: whether to pin an unknown key (``--pin``).

    Raises:
        ProviderError: when the key is unknown, or differs from the known one.
        SSHException, OSError, EOFError: when there is no SSH server.
    """
    presented = public_key_line(presented_key(endpoint))
    expected = " ".join(endpoint.host_key.split()[:2])
    if expected and expected != presented:
        raise ProviderError(
            f"{name}: {endpoint.address} presents another host key ({fingerprint(presented)}) than "
            f"the known one ({fingerprint(expected)}); nothing was sent to it",
            "find out which machine has that address; if it was reinstalled, remove the old key "
            f"(ssh-keygen -R {endpoint.address}) and set the new one as host_key",
        )
    if not expected and not accept:
        raise ProviderError(
            f"{name}: the host key of {endpoint.address} is unknown ({fingerprint(presented)})",
            "compare it on the machine (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then "
            f"pin the keys of all machines with --pin, or set it: host_key: {presented}",
        )
    return endpoint if expected else replace(endpoint, host_key=presented)


def fingerprint(line: str) -> str:
    """Type and fingerprint of a public key, as ``ssh-keygen -l`` prints them."""
    kind, blob = line.split()[:2]
    key = paramiko.PKey.from_type_string(kind, base64.b64decode(blob))
    return f"{kind} {key.fingerprint}"
