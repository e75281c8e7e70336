"""Whether an existing machine can be used: its host key, a login, and its requirements."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace

import paramiko

from provision.core.endpoint import Endpoint
from provision.core.errors import HostError, ProviderError
from provision.core.lab import Machine
from provision.engine.host import Host
from provision.engine.ssh import CONNECT_TIMEOUT, jump
from provision.providers.base import PreflightProblem
from provision.providers.routes import source_address
from provision.providers.ssh.endpoints import first_hop, split_jump
from provision.providers.ssh.host_key import SSH_ERRORS, pin, transport

RELEASE = "debian 13"
FACTS_SCRIPT = """
. /etc/os-release 2>/dev/null; echo "release=$ID $VERSION_ID"
if python3 -c 'import shutil, tarfile' 2>/dev/null; then echo python=yes; fi
if [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; then echo sudo=yes; fi
if [ -d /run/systemd/system ]; then echo systemd=yes; fi
echo "addresses=$(hostname -I)"
"""
"""Runs as the login user and changes nothing."""


def check_machine(
    machine: Machine, endpoint: Endpoint, *, accept_keys: bool
) -> tuple[Endpoint, list[PreflightProblem]]:
    """The endpoint with its pinned host keys, and why the machine cannot be used. Read only.

    Args:
        accept_keys: whether to accept unknown host keys (``--pin``).
    """
    name = machine.name
    try:
        _check_route(name, endpoint)
        if endpoint.jump:
            endpoint = _pin_jump_host(name, endpoint, accept_keys)
        endpoint = _pin(name, endpoint, accept_keys)
        facts = _collect_facts(name, endpoint)
    except ProviderError as error:
        return endpoint, [PreflightProblem.of(error)]
    return endpoint, list(unmet_requirements(machine, endpoint.user, facts))


def _check_route(name: str, endpoint: Endpoint) -> None:
    hop = first_hop(endpoint)
    if source_address(hop) is None:
        what = f"{name}: {hop} cannot be resolved, or there is no route to it"
        raise ProviderError(what, f"check the network: ping {hop}")


def _pin(name: str, endpoint: Endpoint, accept_keys: bool) -> Endpoint:
    try:
        return pin(name, endpoint, accept=accept_keys)
    except SSH_ERRORS as error:
        target = f"{endpoint.address} port {endpoint.port}"
        target += f" through {endpoint.jump}" if endpoint.jump else ""
        raise ProviderError(
            f"{name}: no SSH server responds at {target} ({error or type(error).__name__})",
            f"check that the machine is on: ssh {first_hop(endpoint)}",
        ) from None


def _pin_jump_host(name: str, endpoint: Endpoint, accept_keys: bool) -> Endpoint:
    """Pin the host key of the jump host, and check that the login on it succeeds."""
    user, address, port = split_jump(endpoint.jump)
    key = endpoint.jump_key or endpoint.key
    hop = Endpoint(address, port or 22, user, key, endpoint.jump_host_key)
    hop = _pin(f"{name}'s jump host", hop, accept_keys)
    endpoint = replace(endpoint, jump_host_key=hop.host_key)
    gateway = jump(endpoint)
    try:
        gateway.open()
    except SSH_ERRORS as error:
        what = f"{name}: login on the jump host {endpoint.jump} failed ({error})"
        raise ProviderError(what, f"ssh -p {hop.port} {user}@{address}") from None
    finally:
        gateway.close()
    return endpoint


def _collect_facts(name: str, endpoint: Endpoint) -> dict[str, str]:
    with Host(name, endpoint) as host:
        try:
            host.connect()
        except HostError as error:
            raise _login_error(name, endpoint, error) from None
        result = host.connection.run(
            f"sh -c {shlex.quote(FACTS_SCRIPT)}", hide=True, warn=True, in_stream=False
        )
    return parse_facts(result.stdout)


def parse_facts(text: str) -> dict[str, str]:
    """The output of `FACTS_SCRIPT` by name; other lines, such as a greeting, are ignored."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name: value.strip() for name, _, value in pairs}


def unmet_requirements(
    machine: Machine, user: str, facts: Mapping[str, str]
) -> Iterator[PreflightProblem]:
    """The requirements that a machine with these facts does not meet."""
    name = machine.name
    release = facts.get("release", "").strip()
    if release != RELEASE:
        what = f"{name}: the operating system is {release or 'unknown'}, and a lab needs Debian 13"
        hint = "use another machine, or install Debian 13 (trixie) on it"
        yield PreflightProblem(what, hint)
    if "systemd" not in facts:
        yield PreflightProblem(f"{name}: systemd is not running", "boot it with systemd")
    if "python" not in facts:
        what = f"{name}: python3 is missing or incomplete"
        yield PreflightProblem(what, "sudo apt-get install python3")
    if "sudo" not in facts:
        what = f"{name}: {user} cannot use sudo without a password"
        line = f"{user} ALL=(ALL) NOPASSWD: ALL"
        yield PreflightProblem(what, f"as root there: echo '{line}' >/etc/sudoers.d/lab")
    addresses = facts.get("addresses", "").split()
    if str(machine.address) not in addresses:
        yield PreflightProblem(
            f"{name}: it does not have the address {machine.address}, at which the other "
            f"machines reach it (it has {', '.join(addresses) or 'none'})",
            "set its address in the topology file",
        )


def _login_error(name: str, endpoint: Endpoint, error: HostError) -> ProviderError:
    """Why a login failed: whether the server accepts public keys at all, or refused this one."""
    methods = _authentication_methods(endpoint)
    copy = f"ssh-copy-id -i {endpoint.key} -p {endpoint.port} {endpoint.user}@{endpoint.address}"
    if methods and "publickey" not in methods:
        return ProviderError(
            f"{name}: sshd does not accept public keys ({', '.join(methods)} only)",
            f"PubkeyAuthentication yes in its sshd_config, then {copy}",
        )
    return ProviderError(error.what, copy)


def _authentication_methods(endpoint: Endpoint) -> list[str]:
    """The methods that sshd offers a user, from its response to "none" (RFC 4252, 5.2)."""
    try:
        with transport(endpoint) as connection:
            connection.start_client(timeout=CONNECT_TIMEOUT)
            connection.auth_none(endpoint.user)
    except paramiko.BadAuthenticationType as error:
        return list(error.allowed_types)
    except SSH_ERRORS:
        pass
    return []
