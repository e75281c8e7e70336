"""Restore the controller's access to a machine: network, firewall, sshd, authorized_keys, sudo."""

from __future__ import annotations

import base64
import socket
from dataclasses import dataclass, replace
from pathlib import Path

from provision.core.errors import HostError, HostKeyError, LabError
from provision.core.lab import Machine
from provision.core.report import Report
from provision.core.secrets import Secrets
from provision.core.waiting import Timeout, timeout_factor, wait_until
from provision.engine.host import Host
from provision.operations.machine_access import read_originals, run_as_root, write_originals
from provision.operations.session import Session
from provision.operations.trust import HOST_KEY
from provision.services.hardening.role import user as login_user

SCRIPT = Path(__file__).with_name("restore-access.sh")
SCRIPT_SECONDS = 180.0 * timeout_factor()
"""Reinstalling openssh-server takes the longest."""

PORT_SECONDS = 3.0 * timeout_factor()
"""From the end of the script to sshd's banner, before the firewall is at fault."""


@dataclass(frozen=True)
class Restored:
    """What `restore_access` did.

    Args:
        repaired: one line per fault.
        copies: the folder on the machine that holds what was replaced; empty when nothing was.
    """

    repaired: tuple[str, ...]
    copies: str = ""


def restore_access(session: Session, name: str, report: Report) -> Restored:
    """Make the lab's login and sudo work again, through the provider.

    Raises:
        ProviderError: when the provider cannot get into the machine.
        HostKeyError: when everything works, but sshd presents another host key than the pinned one.
        HostError: when the machine cannot be repaired this way.
    """
    machine = session.lab.machine(name)
    endpoint = session.provider.endpoints(session.lab).get(name)
    key_problem = ""
    if endpoint is not None and endpoint.host_key:
        report(name, "checking its host key")
        key_problem = _restore_host_key(session, name, endpoint.host_key)
    report(name, "repairing network, sshd, authorized_keys and sudo")
    result = _run_script(session, machine, "access")
    if not accepts_ssh(machine):
        report(name, "removing firewall rules")
        firewall = _run_script(session, machine, "firewall")
        result = Restored((*result.repaired, *firewall.repaired), result.copies or firewall.copies)
    _record_lab_key(session, name)
    report(name, "logging in")
    _verify_login(session, name)
    repaired = (f"host key {HOST_KEY}", *result.repaired) if key_problem else result.repaired
    return Restored(repaired, result.copies)


def parse_output(text: str) -> Restored:
    """The lines ``repaired: …`` and ``copies: …`` of the script."""
    lines = [line.partition(": ") for line in text.splitlines()]
    copies = [value for key, _, value in lines if key == "copies"]
    return Restored(tuple(v for key, _, v in lines if key == "repaired"), "".join(copies[-1:]))


def _run_script(session: Session, machine: Machine, part: str) -> Restored:
    lab, name = session.lab, machine.name
    user = login_user(session.context, machine)
    exact = "exact" if session.state.in_containers else "add"
    address = f"{machine.address}/{lab.network.prefixlen}"
    keys = Secrets(lab.directory).authorized_keys()
    values = [part, user, exact, address, str(lab.gateway), keys]
    argv = ["sh", "-s", "--", *values]
    script = SCRIPT.read_text(encoding="utf-8")
    result = run_as_root(session, name, *argv, stdin=script, timeout=SCRIPT_SECONDS)
    if not result.ok:
        raise HostError(
            f"{name}: access cannot be restored from inside (status {result.status})",
            f"invoke lab.rebuild {name} recreates the machine; invoke lab.rescue {name} opens a "
            "root shell",
            output=result.stdout + result.stderr,
        )
    return parse_output(result.stdout)


def accepts_ssh(machine: Machine) -> bool:
    """Whether sshd's banner arrives."""

    def banner() -> bool:
        try:
            with socket.create_connection((str(machine.address), 22), timeout=1) as connection:
                connection.settimeout(2)
                return connection.recv(64).startswith(b"SSH-")
        except OSError:
            return False

    try:
        wait_until(banner, PORT_SECONDS, "sshd", interval=0.1)
    except Timeout:
        return False
    return True


def _restore_host_key(session: Session, name: str, pinned: str) -> str:
    """Put the pinned host key back from the machine's record; returns what was wrong, or empty."""
    current = run_as_root(session, name, "ssh-keygen", "-y", "-f", HOST_KEY)
    if current.stdout.split()[:2] == pinned.split()[:2]:
        return ""
    files = read_originals(session, name).get("files", {})
    if HOST_KEY not in files or f"{HOST_KEY}.pub" not in files:
        return ""
    private, public = (
        base64.b64decode(files[path].content).decode() for path in (HOST_KEY, f"{HOST_KEY}.pub")
    )
    if public.split()[:2] != pinned.split()[:2]:
        return ""
    for path, text, mode in ((HOST_KEY, private, "600"), (f"{HOST_KEY}.pub", public, "644")):
        run_as_root(session, name, "install", "-D", "-m", mode, "/dev/stdin", path, stdin=text)
    return "another host key"


def _record_lab_key(session: Session, name: str) -> None:
    """Make the lab's present key the original one, which `lab.up` restores: it may be a new one."""
    user = login_user(session.context, session.lab.machine(name))
    keys = Secrets(session.lab.directory).authorized_keys().splitlines()
    record = read_originals(session, name)
    files = dict(record.get("files", {}))
    path = next((p for p in files if p.endswith(f"/{user}/.ssh/authorized_keys")), "")
    lines = base64.b64decode(files[path].content).decode().splitlines() if path else []
    if not path or {*keys} <= {*lines}:
        return
    kept = lines if session.provider.name == "vagrant" else []
    text = "".join(f"{line}\n" for line in dict.fromkeys((*kept, *keys)))
    files[path] = replace(
        files[path], type="file", content=base64.b64encode(text.encode()).decode()
    )
    write_originals(session, name, {**record, "files": files})


def _verify_login(session: Session, name: str) -> None:
    """Log in and use sudo as every command does.

    Raises:
        HostKeyError: when the presented key is not the pinned one.
        HostError: when that fails.
    """
    endpoint = session.provider.endpoints(session.lab).get(name)
    if endpoint is None:
        raise LabError(f"{name} is not running", "invoke lab.up")
    try:
        with Host(name, endpoint) as host:
            host.run("true")
    except HostKeyError:
        raise
    except HostError as error:
        raise HostError(
            f"access to {name} cannot be restored: {error.what}",
            f"invoke lab.rebuild {name} recreates the machine; invoke lab.rescue {name} opens a "
            "root shell",
            output=error.output,
        ) from None
