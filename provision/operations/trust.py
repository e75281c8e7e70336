"""Pin the changed host key of a machine, after it was compared with the machine's own key."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace

from provision.core.endpoint import Endpoint
from provision.core.errors import HostError, HostKeyError, LabError
from provision.core.ssh_config import write_ssh_config
from provision.operations.machine_access import read_originals, run_as_root, write_originals
from provision.operations.session import Session
from provision.providers.ssh.endpoints import public_key_line
from provision.providers.ssh.host_key import SSH_ERRORS, fingerprint, presented_key

HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"


@dataclass(frozen=True)
class HostKeys:
    """The host keys of a machine, each as ``ssh-ed25519 AAAA…``, or empty when unknown.

    Args:
        presented: by whatever responds at the machine's address.
        own: read inside the machine through its provider; empty when that is impossible.
    """

    machine: str
    address: str
    pinned: str
    presented: str
    own: str = ""

    @property
    def is_pinned(self) -> bool:
        """Whether there is nothing to do."""
        return self.presented == self.pinned

    def lines(self) -> list[str]:
        """Both fingerprints, for the user to compare."""
        pinned = fingerprint(self.pinned) if self.pinned else "none"
        verified = (
            "it is the machine's own, according to the provider"
            if self.own
            else (f"not verified; compare it on the machine: ssh-keygen -lf {HOST_KEY}.pub")
        )
        return [
            f"{self.machine} ({self.address})",
            f"  pinned     {pinned}",
            f"  presented  {fingerprint(self.presented)}",
            f"             {verified}",
        ]


def read_host_keys(session: Session, name: str) -> HostKeys:
    """Read the pinned key, the presented one, and the machine's own.

    Raises:
        HostError: when nothing presents a key.
        HostKeyError: when the presented key is not the machine's own.
        LabError: when the machine does not run, or its own key cannot be read.
    """
    endpoint = _endpoint(session, name)
    pinned = " ".join(endpoint.host_key.split()[:2])
    try:
        presented = public_key_line(presented_key(endpoint))
    except SSH_ERRORS as error:
        raise HostError(
            f"{name}: {endpoint.address} port {endpoint.port} presents no host key "
            f"({error or type(error).__name__})",
            f"invoke lab.rescue {name} --fix",
        ) from None
    own = "" if session.provider.name == "ssh" else own_host_key(session, name)
    return verified(HostKeys(name, endpoint.address, pinned, presented, own))


def verified(keys: HostKeys) -> HostKeys:
    """The keys, if the presented one is the machine's own or that is unknown.

    Raises:
        HostKeyError: when another machine may have that address.
    """
    if keys.own and keys.own != keys.presented:
        raise HostKeyError(
            f"{keys.machine}: {keys.address} presents {fingerprint(keys.presented)}, but the "
            f"machine's own host key is {fingerprint(keys.own)}; nothing was pinned",
            "if another machine has that address, give it another one; if sshd still uses a key "
            f"that was replaced: invoke lab.rescue {keys.machine} -- systemctl restart ssh",
        )
    return keys


def own_host_key(session: Session, name: str) -> str:
    """The public host key, derived from the private one inside the machine.

    Raises:
        LabError: when it cannot be read.
    """
    result = run_as_root(session, name, "ssh-keygen", "-y", "-f", HOST_KEY)
    if not result.ok or not result.stdout.startswith("ssh-"):
        raise LabError(
            f"{name}: its host key {HOST_KEY} cannot be read through the provider",
            f"invoke lab.rescue {name} --fix",
            output=result.output,
        )
    return " ".join(result.stdout.split()[:2])


def pin(session: Session, keys: HostKeys) -> None:
    """Pin the presented key, rewrite known_hosts, and make it the machine's original one."""
    session.provider.pin_host_key(session.lab, keys.machine, keys.presented)
    endpoints = dict(session.provider.endpoints(session.lab))
    write_ssh_config(session.lab, endpoints)
    if keys.own:
        _record_as_original(session, keys.machine)


def _record_as_original(session: Session, name: str) -> None:
    """`lab.up` restores original files: from now on this key is the original."""
    record = read_originals(session, name)
    files = dict(record.get("files", {}))
    changed = False
    for path in (HOST_KEY, f"{HOST_KEY}.pub"):
        result = run_as_root(session, name, "cat", path)
        if result.ok and path in files:
            content = base64.b64encode(result.stdout.encode()).decode()
            files[path] = replace(files[path], type="file", content=content)
            changed = True
    if changed:
        write_originals(session, name, {**record, "files": files})


def _endpoint(session: Session, name: str) -> Endpoint:
    session.lab.machine(name)
    endpoints = session.provider.endpoints(session.lab)
    problem = session.provider.network_problem(session.lab)
    if problem or name not in endpoints:
        raise LabError(f"{name} is not running {problem}".strip(), "invoke lab.up")
    return endpoints[name]
