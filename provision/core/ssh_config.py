"""Write ``ssh_config`` and ``known_hosts`` of a lab, so that plain ``ssh`` reaches its machines."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from provision.core.atomic import write_atomically
from provision.core.endpoint import Endpoint
from provision.core.lab import DEFAULT_LAB, Lab

TIMEOUTS = {"ConnectTimeout": "10", "ServerAliveInterval": "5", "ServerAliveCountMax": "3"}
"""Seconds until a machine that does not respond is given up: before the login, and after it."""


def ssh_command(lab: Lab, *words: str) -> list[str]:
    """The command line of OpenSSH's client for a lab's machines.

    Args:
        words: options, the machine, and a command for it.
    """
    # On the command line as well: a configuration of an earlier version does not have them.
    options = [f"-o{name}={value}" for name, value in TIMEOUTS.items()]
    return ["ssh", "-F", str(lab.directory / "ssh_config"), *options, *words]


def write_ssh_config(lab: Lab, endpoints: Mapping[str, Endpoint]) -> Path:
    """Write both files into the lab's directory, and return the file for ``ssh -F``.

    For the default lab, ``.lab/ssh_config`` includes it: ``ssh -F .lab/ssh_config web-01`` works.

    Args:
        endpoints: by machine name.

    Raises:
        LabError: when a file cannot be written.
    """
    config = lab.directory.absolute() / "ssh_config"
    write_atomically(config.with_name("known_hosts"), known_hosts(lab, endpoints), 0o644)
    write_atomically(config, ssh_config(lab, endpoints), 0o644)
    if lab.name == DEFAULT_LAB:
        include = f"Include {_quoted(config, tokens=False)}"
        text = f"# Written by lab.up: the machines of lab {lab.name}.\n{include}\n"
        write_atomically(config.parent.parent / "ssh_config", text, 0o644)
    return config


def ssh_config(lab: Lab, endpoints: Mapping[str, Endpoint]) -> str:
    """A client configuration with one ``Host`` per machine (ssh_config(5)).

    Host keys are pinned by machine name, so a machine may change its address or port; a key that
    differs from the recorded one is refused.
    """
    known_hosts_file = _quoted(lab.directory.absolute() / "known_hosts")
    path = (lab.directory / "ssh_config").relative_to(lab.root).as_posix()
    parts = [f"# Written by lab.up for lab {lab.name}. Use: ssh -F {shlex.quote(path)} MACHINE\n"]
    for name, endpoint in _in_topology_order(lab, endpoints):
        lines = [
            f"Host {name}",
            f"  HostName {endpoint.address}",
            f"  Port {endpoint.port}",
            f"  User {endpoint.user}",
            f"  IdentityFile {_quoted(endpoint.key.expanduser().absolute())}",
            "  IdentitiesOnly yes",
            f"  HostKeyAlias {name}",
            f"  UserKnownHostsFile {known_hosts_file}",
            "  GlobalKnownHostsFile /dev/null",
            "  StrictHostKeyChecking yes",
            "  LogLevel ERROR",
            *(f"  {name} {value}" for name, value in TIMEOUTS.items()),
        ]
        if endpoint.jump:
            lines.append(f"  ProxyJump {endpoint.jump}")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def known_hosts(lab: Lab, endpoints: Mapping[str, Endpoint]) -> str:
    """One line per machine with a pinned host key: its name and the key (sshd(8))."""
    lines = []
    for name, endpoint in _in_topology_order(lab, endpoints):
        if not endpoint.host_key:
            continue
        kind, key = endpoint.host_key.split()[:2]
        lines.append(f"{name} {kind} {key}\n")
    return "".join(lines)


def _in_topology_order(lab: Lab, endpoints: Mapping[str, Endpoint]) -> list[tuple[str, Endpoint]]:
    names = [m.name for m in lab.machines]
    return [(name, endpoints[name]) for name in names if name in endpoints]


def _quoted(path: Path, *, tokens: bool = True) -> str:
    """A path for ssh_config(5), quoted for spaces; ``%`` is doubled where it starts a token."""
    text = path.as_posix().replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text.replace("%", "%%") if tokens else text}"'
