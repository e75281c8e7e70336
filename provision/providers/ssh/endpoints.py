"""How each existing machine is reached, from files only; no connection is made.

Precedence of every value: the inventory file, the topology's ``ssh:``, the user's OpenSSH
configuration, OpenSSH's defaults.
"""

from __future__ import annotations

import base64
import getpass
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import paramiko

from provision.core.endpoint import Endpoint
from provision.core.errors import ProviderError
from provision.core.lab import Lab, Machine
from provision.providers.base import PreflightProblem

DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
"""The private keys that OpenSSH tries by default (ssh_config(5), IdentityFile)."""

HOST_KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")
"""In order of preference."""

_INCLUDE = re.compile(r"\s*include[\s=]+(.+?)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class OpenSshFiles:
    """The user's OpenSSH configuration and known hosts, in the folder ``home`` (``~/.ssh``)."""

    home: Path
    config: paramiko.SSHConfig = field(default_factory=paramiko.SSHConfig)
    known_hosts: paramiko.HostKeys = field(default_factory=paramiko.HostKeys)
    user: str = "root"

    def lookup(self, name: str) -> Mapping[str, object]:
        """The configuration for a host name, with tokens expanded."""
        options: Mapping[str, object] = self.config.lookup(name)
        return options

    def host_key(self, name: str, port: int) -> str:
        """The known host key of a name, or empty."""
        entry = self.known_hosts.lookup(name if port == 22 else f"[{name}]:{port}")
        kinds = [kind for kind in HOST_KEY_TYPES if entry is not None and kind in entry]
        if entry is None or not kinds:
            return ""
        return public_key_line(entry[kinds[0]])


def public_key_line(key: paramiko.PKey) -> str:
    """A public key in OpenSSH's format."""
    return f"{key.get_name()} {base64.b64encode(key.asbytes()).decode()}"


def read_openssh_files(environ: Mapping[str, str] = os.environ) -> OpenSshFiles:
    """The OpenSSH files of the current user.

    Environment: LAB_SSH_CONFIG replaces ``~/.ssh/config``.
    """
    home = Path.home() / ".ssh"
    setting = environ.get("LAB_SSH_CONFIG", "")
    file = Path(setting).expanduser() if setting else home / "config"
    config = paramiko.SSHConfig.from_text(read_config(file, home))
    known_hosts = paramiko.HostKeys()
    system = Path(environ.get("PROGRAMDATA") or "/etc") / "ssh"  # the former on Windows
    for path in (home / "known_hosts", system / "ssh_known_hosts"):
        if path.is_file():
            known_hosts.load(str(path))
    return OpenSshFiles(home, config, known_hosts, getpass.getuser())


def read_config(path: Path, home: Path, depth: int = 0) -> str:
    """A configuration file's text, with included files inserted (ssh_config(5), Include)."""
    if depth > 16 or not path.is_file():
        return ""
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        include = _INCLUDE.fullmatch(line)
        if not include:
            lines.append(line)
            continue
        for pattern in include.group(1).split():
            target = Path(pattern.strip('"')).expanduser()
            base, rest = home, target
            if target.is_absolute():
                base, rest = Path(target.anchor), target.relative_to(target.anchor)
            for file in sorted(base.glob(str(rest))):
                lines.append(read_config(file, home, depth + 1))
    return "\n".join(lines)


def resolve_endpoints(
    lab: Lab, inventory: Mapping[str, Mapping[str, str]], openssh: OpenSshFiles
) -> tuple[dict[str, Endpoint], list[PreflightProblem]]:
    """The endpoint of every machine; the host key is empty when it is not known."""
    names = [machine.name for machine in lab.machines]
    problems = [
        PreflightProblem(
            f"the inventory contains {name}, which is not in the topology {lab.topology.name}",
            f"machines of the topology: {', '.join(names)}",
        )
        for name in inventory
        if name not in names
    ]
    endpoints = {}
    for machine in lab.machines:
        settings = {**dict(machine.ssh), **inventory.get(machine.name, {})}
        try:
            endpoints[machine.name] = resolve_endpoint(machine, settings, openssh)
        except ProviderError as error:
            problems.append(PreflightProblem.of(error))
    return endpoints, problems


def resolve_endpoint(
    machine: Machine, settings: Mapping[str, str], openssh: OpenSshFiles
) -> Endpoint:
    """The endpoint of one machine.

    Args:
        settings: any of the keys address, port, user, key, host_key, jump.

    Raises:
        ProviderError: when its settings are not supported, or there is no private key.
    """
    alias = settings.get("address") or machine.name
    config = openssh.lookup(alias)
    address = str(config.get("hostname", alias))
    if address == machine.name and "address" not in settings:
        address = str(machine.address)  # configured nowhere: use the address on the lab's network
    port = int(settings.get("port") or str(config.get("port", "22")))
    key = _private_key(settings.get("key", ""), config, openssh)
    if not key.is_file():
        raise ProviderError(
            f"{machine.name}: the private key {key} does not exist",
            "set another one (key: …), or create one: ssh-keygen -t ed25519",
        )
    endpoint = Endpoint(
        address=address,
        port=port,
        user=settings.get("user") or str(config.get("user", openssh.user)),
        key=key,
        host_key=settings.get("host_key")
        or openssh.host_key(str(config.get("hostkeyalias", "")) or address, port)
        or openssh.host_key(alias, port),
        agent=True,
    )
    return _with_jump(endpoint, machine, settings, config, openssh)


def _private_key(setting: str, config: Mapping[str, object], openssh: OpenSshFiles) -> Path:
    """The private key: the configured one, else the first default key that exists."""
    if setting:
        return Path(setting).expanduser()
    identities = config.get("identityfile", [])
    names = [str(name) for name in identities] if isinstance(identities, list) else []
    candidates = [Path(name).expanduser() for name in names]
    candidates += [openssh.home / name for name in DEFAULT_KEYS]
    return next((path for path in candidates if path.is_file()), candidates[0])


def _with_jump(
    endpoint: Endpoint,
    machine: Machine,
    settings: Mapping[str, str],
    config: Mapping[str, object],
    openssh: OpenSshFiles,
) -> Endpoint:
    """The endpoint with the jump host, its private key and its host key, if there is one."""
    jump = settings.get("jump") or str(config.get("proxyjump", "") or "")
    command = str(config.get("proxycommand", "") or "")
    if "," in jump:
        what = f"{machine.name}: more than one jump host ({jump}) is not supported"
        raise ProviderError(what, "set a single jump host: jump: …")
    if not jump and command and command.lower() != "none":
        what = f"{machine.name}: ProxyCommand is not supported"
        raise ProviderError(what, "use a jump host: ProxyJump, or jump: …")
    if not jump or jump.lower() == "none":
        return endpoint
    user, alias, port = split_jump(jump)
    options = openssh.lookup(alias)
    user = user or str(options.get("user", openssh.user))
    host = str(options.get("hostname", alias))
    port = port or int(str(options.get("port", "22")))
    key = _private_key("", options, openssh)
    return replace(
        endpoint,
        jump=f"{user}@{host}:{port}",
        jump_key=key if key.is_file() else None,
        jump_host_key=openssh.host_key(host, port),
    )


def split_jump(text: str) -> tuple[str, str, int]:
    """User, host and port of ``[user@]host[:port]``; empty and 0 for missing parts."""
    user, _, rest = text.rpartition("@")
    host, _, port = rest.partition(":")
    return user, host, int(port or 0)


def first_hop(endpoint: Endpoint) -> str:
    """The address that this host connects to: the jump host's or the machine's own."""
    return split_jump(endpoint.jump)[1] if endpoint.jump else endpoint.address
