"""How an existing machine is reached: what was said of it, put together. No connection is made.

For each value the first that says something counts: the inventory file, the topology's ``ssh:``,
the user's own OpenSSH configuration, OpenSSH's defaults.
"""

from __future__ import annotations

import base64
import getpass
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import paramiko

from provision.core.endpoint import Endpoint
from provision.core.lab import Lab, Machine
from provision.providers.base import Problem

KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
"""The private keys that OpenSSH tries by itself (ssh_config(5), IdentityFile)."""

KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")
"""Host keys, the preferred kind first."""

_INCLUDE = re.compile(r"\s*include[\s=]+(.+?)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Client:
    """What OpenSSH's own files on this computer say.

    Args:
        home: the folder ``.ssh`` of the user.
        config: the parsed configuration.
        known: host keys that the user has accepted before.
        user: the user's name here.
    """

    home: Path
    config: paramiko.SSHConfig = field(default_factory=paramiko.SSHConfig)
    known: paramiko.HostKeys = field(default_factory=paramiko.HostKeys)
    user: str = "root"

    def lookup(self, name: str) -> Mapping[str, object]:
        """What the configuration says for a host name, tokens expanded."""
        found: Mapping[str, object] = self.config.lookup(name)
        return found

    def host_key(self, name: str, port: int) -> str:
        """The host key that is known for a name, or empty."""
        entry = self.known.lookup(name if port == 22 else f"[{name}]:{port}")
        kinds = [kind for kind in KINDS if entry is not None and kind in entry]
        if entry is None or not kinds:
            return ""
        return key_line(entry[kinds[0]])


def key_line(key: paramiko.PKey) -> str:
    """A public key as OpenSSH writes it."""
    return f"{key.get_name()} {base64.b64encode(key.asbytes()).decode()}"


def client(environ: Mapping[str, str] = os.environ) -> Client:
    """Read this computer's OpenSSH files, those that are there.

    Environment: LAB_SSH_CONFIG names another configuration than ``~/.ssh/config``.
    """
    home = Path.home() / ".ssh"
    chosen = environ.get("LAB_SSH_CONFIG", "")
    files = [Path(chosen).expanduser()] if chosen else [home / "config"]
    config = paramiko.SSHConfig.from_text("\n".join(text(path, home) for path in files))
    known = paramiko.HostKeys()
    everybodys = Path(environ.get("PROGRAMDATA") or "/etc") / "ssh"  # the former on Windows
    for path in (home / "known_hosts", everybodys / "ssh_known_hosts"):
        if path.is_file():
            known.load(str(path))
    return Client(home, config, known, getpass.getuser())


def text(path: Path, home: Path, depth: int = 0) -> str:
    """A configuration's text with what it includes put in its place (ssh_config(5), Include)."""
    if depth > 16 or not path.is_file():
        return ""
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        found = _INCLUDE.fullmatch(line)
        if not found:
            lines.append(line)
            continue
        for pattern in found.group(1).split():
            place = Path(pattern.strip('"')).expanduser()
            base, rest = (
                (Path(place.anchor), place.relative_to(place.anchor))
                if place.is_absolute()
                else (home, place)
            )
            lines += [text(each, home, depth + 1) for each in sorted(base.glob(str(rest)))]
    return "\n".join(lines)


def resolve(
    lab: Lab, inventory: Mapping[str, Mapping[str, str]], here: Client
) -> tuple[dict[str, Endpoint], list[Problem]]:
    """Every machine's endpoint as far as it is known beforehand; its host key may be empty.

    Args:
        lab: whose machines they are.
        inventory: by machine name, what the inventory file says.
        here: this computer's OpenSSH files.
    """
    problems = [
        Problem(
            f"the inventory names {name}, which is no machine of the topology {lab.topology.name}",
            f"machines there: {', '.join(m.name for m in lab.machines)}",
        )
        for name in inventory
        if name not in {m.name for m in lab.machines}
    ]
    endpoints = {}
    for machine in lab.machines:
        said = {**dict(machine.ssh), **inventory.get(machine.name, {})}
        endpoint, found = one(machine, said, here)
        endpoints[machine.name] = endpoint
        problems += found
    return endpoints, problems


def one(
    machine: Machine, said: Mapping[str, str], here: Client
) -> tuple[Endpoint, Sequence[Problem]]:
    """One machine's endpoint, and why it cannot be used.

    Args:
        machine: which one.
        said: of the keys address, port, user, key, host_key, jump.
        here: this computer's OpenSSH files.
    """
    alias = said.get("address") or machine.name
    config = here.lookup(alias)
    address = str(config.get("hostname", alias))
    if address == machine.name and "address" not in said:
        address = str(machine.address)  # nobody says where it is: the topology's own address
    port = int(said.get("port") or str(config.get("port", "22")))
    jump, jump_key, problems = _jump(machine, said, config, here)
    key = _key(said.get("key", ""), config, here)
    if not key.is_file():
        problems.append(
            Problem(
                f"{machine.name}: there is no private key {key}",
                "name one (key: …), or make one: ssh-keygen -t ed25519",
            )
        )
    endpoint = Endpoint(
        address=address,
        port=port,
        user=said.get("user") or str(config.get("user", here.user)),
        key=key,
        host_key=said.get("host_key")
        or here.host_key(str(config.get("hostkeyalias", "")) or address, port)
        or here.host_key(alias, port),
        jump=jump,
        agent=True,
        jump_key=jump_key,
        jump_host_key=_jump_host_key(jump, here),
    )
    return endpoint, problems


def _key(said: str, config: Mapping[str, object], here: Client) -> Path:
    """The private key: the named one, else the first that is there."""
    if said:
        return Path(said).expanduser()
    listed = config.get("identityfile", [])
    names = [str(name) for name in listed] if isinstance(listed, list) else []
    candidates = [Path(name).expanduser() for name in names]
    candidates += [here.home / name for name in KEYS]
    return next((path for path in candidates if path.is_file()), candidates[0])


def _jump(
    machine: Machine, said: Mapping[str, str], config: Mapping[str, object], here: Client
) -> tuple[str, Path | None, list[Problem]]:
    """The jump host as ``user@host:port``, the key for it, and what cannot be done."""
    wanted = said.get("jump") or str(config.get("proxyjump", "") or "")
    if wanted.lower() == "none":
        wanted = ""
    if "," in wanted:
        what = f"{machine.name}: more than one jump host ({wanted})"
        return "", None, [Problem(what, "one is supported; log in to the last one from here")]
    if not wanted:
        command = str(config.get("proxycommand", "") or "")
        if command and command.lower() != "none":
            what = f"{machine.name}: its ProxyCommand would run a program on this computer"
            return "", None, [Problem(what, "name a jump host instead: ProxyJump, or jump: …")]
        return "", None, []
    user, host, port = split_jump(wanted)
    own = here.lookup(host)
    user = user or str(own.get("user", here.user))
    number = port or int(str(own.get("port", "22")))
    key = _key("", own, here)
    return f"{user}@{own.get('hostname', host)}:{number}", key if key.is_file() else None, []


def _jump_host_key(jump: str, here: Client) -> str:
    if not jump:
        return ""
    _, host, port = split_jump(jump)
    return here.host_key(host, port or 22)


def split_jump(text: str) -> tuple[str, str, int]:
    """User, host and port of ``[user@]host[:port]``; empty and 0 when not said."""
    user, _, rest = text.rpartition("@")
    host, _, port = rest.partition(":")
    return user, host, int(port or 0)


def first_hops(endpoints: Iterable[Endpoint]) -> dict[str, str]:
    """By address, the address that this computer itself connects to for it."""
    return {e.address: split_jump(e.jump)[1] if e.jump else e.address for e in endpoints}
