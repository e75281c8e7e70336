"""Whether an existing machine will do: its host key, a login, and a few questions to it."""

from __future__ import annotations

import base64
import contextlib
import shlex
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace

import paramiko

from provision.core.endpoint import Endpoint
from provision.core.errors import HostError
from provision.core.lab import Lab, Machine
from provision.engine.host import CONNECT_TIMEOUT, Host, jump
from provision.providers.base import Problem
from provision.providers.routes import source_for
from provision.providers.ssh.sources import key_line, split_jump

RELEASE = "debian 13"
QUESTIONS = """
. /etc/os-release 2>/dev/null; echo "release=$ID $VERSION_ID"
if python3 -c 'import shutil, tarfile' 2>/dev/null; then echo python=yes; fi
if [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; then echo sudo=yes; fi
if [ -d /run/systemd/system ]; then echo systemd=yes; fi
echo "addresses=$(hostname -I)"
"""
"""Asked as the user that logs in; nothing is changed."""


def examine(
    lab: Lab, machine: Machine, endpoint: Endpoint, pin: bool
) -> tuple[Endpoint, list[Problem]]:
    """Look at one machine; nothing on it is changed.

    Args:
        lab: whose machine it shall be.
        machine: which one.
        endpoint: how it is reached; with its host key when that is known.
        pin: whether a host key that is not known is taken as it is shown.

    Returns:
        The endpoint with the host key to be pinned, and why the machine will not do.
    """
    name = machine.name
    hop = split_jump(endpoint.jump)[1] if endpoint.jump else endpoint.address
    if source_for(hop) is None:
        what = f"{name}: this computer has no route to {hop}, or does not know that name"
        return endpoint, [Problem(what, f"look at the network: ping {hop}")]
    if endpoint.jump:
        endpoint, problems = _jump_host(name, endpoint, pin)
        if problems:
            return endpoint, problems
    try:
        shown = key_line(host_key(endpoint))
    except (paramiko.SSHException, OSError, EOFError) as error:
        where = f"{endpoint.address} port {endpoint.port}"
        way = f" through {endpoint.jump}" if endpoint.jump else ""
        what = f"{name}: no sshd answers at {where}{way} ({error or type(error).__name__})"
        return endpoint, [Problem(what, "is it on, and is that its address? ssh " + hop)]
    endpoint, problems = _pinned(name, endpoint, shown, pin)
    if problems:
        return endpoint, problems
    with Host(name, endpoint) as host:
        try:
            host.connect()
        except HostError as error:
            return endpoint, [_refused(name, endpoint, error)]
        done = host.connection.run(
            f"sh -c {shlex.quote(QUESTIONS)}", hide=True, warn=True, in_stream=False
        )
    return endpoint, unfit(machine, endpoint.user, understand(done.stdout))


def understand(text: str) -> dict[str, str]:
    """The answers to `QUESTIONS` by name; other lines (a greeting, say) are not looked at."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name: value.strip() for name, _, value in pairs}


def unfit(machine: Machine, user: str, answers: Mapping[str, str]) -> list[Problem]:
    """Why a machine that can be logged in to will not do.

    Args:
        machine: what it shall be.
        user: who logs in.
        answers: of the machine.
    """
    name, found = machine.name, []
    release = answers.get("release", "").strip()
    if release != RELEASE:
        found.append(
            Problem(
                f"{name}: it runs {release or 'no system that can be told'}, and a lab needs "
                "Debian 13",
                "take another machine, or install Debian 13 (trixie) on it",
            )
        )
    if "systemd" not in answers:
        found.append(Problem(f"{name}: systemd does not run there", "boot it with systemd"))
    if "python" not in answers:
        found.append(
            Problem(f"{name}: there is no python3, or only a part", "sudo apt-get install python3")
        )
    if "sudo" not in answers:
        what = f"{name}: {user} may not use sudo without a password"
        line = f"{user} ALL=(ALL) NOPASSWD: ALL"
        found.append(Problem(what, f"as root there: echo '{line}' >/etc/sudoers.d/lab"))
    addresses = answers.get("addresses", "").split()
    if str(machine.address) not in addresses:
        found.append(
            Problem(
                f"{name}: it does not have the address {machine.address}, by which the others "
                f"are to reach it (it has {', '.join(addresses) or 'none'})",
                "write its own address into the topology file",
            )
        )
    return found


def host_key(endpoint: Endpoint) -> paramiko.PKey:
    """The host key that the machine shows; nothing is sent beyond SSH's greeting.

    Raises:
        SSHException, OSError, EOFError: when no sshd answers there.
    """
    with _socket(endpoint) as sock:
        transport = paramiko.Transport(sock)
        transport.banner_timeout = CONNECT_TIMEOUT
        try:
            if endpoint.host_key:  # a machine has several: ask for the kind that is pinned
                kind = endpoint.host_key.split()[0]
                kinds = transport.get_security_options().key_types
                wanted = [k for k in kinds if k == kind or (kind == "ssh-rsa" and "rsa" in k)]
                if wanted:
                    transport.get_security_options().key_types = wanted
            transport.start_client(timeout=CONNECT_TIMEOUT)
            return transport.get_remote_server_key()
        finally:
            transport.close()


@contextlib.contextmanager
def _socket(endpoint: Endpoint) -> Iterator[socket.socket | paramiko.Channel]:
    place = (endpoint.address, endpoint.port)
    if not endpoint.jump:
        with socket.create_connection(place, timeout=CONNECT_TIMEOUT) as sock:
            yield sock
        return
    gateway = jump(endpoint)
    try:
        gateway.open()
        yield gateway.transport.open_channel(
            "direct-tcpip", place, ("", 0), timeout=CONNECT_TIMEOUT
        )
    finally:
        gateway.close()


def _pinned(name: str, endpoint: Endpoint, shown: str, pin: bool) -> tuple[Endpoint, list[Problem]]:
    """The endpoint with its pin, or why what the machine shows is not accepted."""
    expected = " ".join(endpoint.host_key.split()[:2])
    if expected == shown:
        return endpoint, []
    if expected:
        what = (
            f"{name}: {endpoint.address} shows another host key ({fingerprint(shown)}) than the "
            f"known one ({fingerprint(expected)}); nothing was sent to it"
        )
        advice = (
            "find out what answers there; when the machine was rightly made anew, remove its old "
            f"key (ssh-keygen -R {endpoint.address}) and give the new one as host_key"
        )
        return endpoint, [Problem(what, advice)]
    if not pin:
        what = f"{name}: the host key of {endpoint.address} is not known ({fingerprint(shown)})"
        advice = (
            "compare it on the machine (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then "
            f"accept what all show now with --pin, or give it: host_key: {shown}"
        )
        return endpoint, [Problem(what, advice)]
    return replace(endpoint, host_key=shown), []


def _jump_host(name: str, endpoint: Endpoint, pin: bool) -> tuple[Endpoint, list[Problem]]:
    """The same for the jump host: its key is pinned too."""
    user, address, port = split_jump(endpoint.jump)
    first = Endpoint(
        address, port or 22, user, endpoint.jump_key or endpoint.key, endpoint.jump_host_key
    )
    try:
        shown = key_line(host_key(first))
    except (paramiko.SSHException, OSError, EOFError) as error:
        what = f"{name}: the jump host {endpoint.jump} does not answer ({error})"
        return endpoint, [Problem(what, f"ssh -p {first.port} {address}")]
    first, problems = _pinned(f"{name}'s jump host", first, shown, pin)
    if problems:
        return endpoint, problems
    endpoint = replace(endpoint, jump_host_key=first.host_key)
    gateway = jump(endpoint)
    try:
        gateway.open()
    except (paramiko.SSHException, OSError, EOFError) as error:
        what = f"{name}: login on the jump host {endpoint.jump} failed ({error})"
        return endpoint, [Problem(what, f"ssh -p {first.port} {user}@{address}")]
    finally:
        gateway.close()
    return endpoint, []


def fingerprint(line: str) -> str:
    """A public key's kind and fingerprint, as ``ssh-keygen -l`` shows them."""
    kind, blob = line.split()[:2]
    key = paramiko.PKey.from_type_string(kind, base64.b64decode(blob))
    return f"{kind} {key.fingerprint}"


def _refused(name: str, endpoint: Endpoint, error: HostError) -> Problem:
    """Why a login failed: a machine that takes passwords only is told from a wrong key."""
    methods = _methods(endpoint)
    copy = f"ssh-copy-id -i {endpoint.key} -p {endpoint.port} {endpoint.user}@{endpoint.address}"
    if methods and "publickey" not in methods:
        return Problem(
            f"{name}: sshd there takes no keys ({', '.join(methods)} only)",
            f"PubkeyAuthentication yes in its sshd_config, then {copy}",
        )
    return Problem(error.what, copy)


def _methods(endpoint: Endpoint) -> list[str]:
    """How sshd lets that user in, from its refusal of no method at all (RFC 4252, 5.2)."""
    try:
        with _socket(endpoint) as sock:
            transport = paramiko.Transport(sock)
            try:
                transport.start_client(timeout=CONNECT_TIMEOUT)
                transport.auth_none(endpoint.user)
            finally:
                transport.close()
    except paramiko.BadAuthenticationType as error:
        return list(error.allowed_types)
    except (paramiko.SSHException, OSError, EOFError):
        pass
    return []
