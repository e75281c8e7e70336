"""Preflight checks of existing machines, from their facts and on a real SSH server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from paramiko.common import AUTH_FAILED

from provision import providers
from provision.core.endpoint import Endpoint
from provision.core.errors import ProviderError, UsageError
from provision.core.lab import Lab
from provision.providers.ssh import SshProvider
from provision.providers.ssh.endpoints import public_key_line
from provision.providers.ssh.preflight import check_machine, parse_facts, unmet_requirements

GOOD = """\
Welcome to this machine = a greeting
release=debian 13
python=yes
sudo=yes
systemd=yes
addresses=203.0.113.7 192.168.56.10 fd00::1
"""


def problems(lab: Lab, text: str) -> list[str]:
    return [p.what for p in unmet_requirements(lab.machines[0], "debian", parse_facts(text))]


def test_a_suitable_machine(lab: Lab) -> None:
    assert problems(lab, GOOD) == []


@pytest.mark.parametrize(
    ("line", "instead", "words"),
    [
        (
            "release=debian 13",
            "release=debian 12",
            "the operating system is debian 12, and a lab needs Debian 13",
        ),
        ("release=debian 13", "release=ubuntu 24.04", "is ubuntu 24.04"),
        ("release=debian 13", "release= ", "is unknown"),
        ("python=yes", "", "python3 is missing"),
        ("sudo=yes", "", "debian cannot use sudo without a password"),
        ("systemd=yes", "", "systemd is not running"),
        ("192.168.56.10 ", "", "it does not have the address 192.168.56.10"),
    ],
)
def test_an_unmet_requirement_is_reported(lab: Lab, line: str, instead: str, words: str) -> None:
    reported = problems(lab, GOOD.replace(line, instead))
    assert len(reported) == 1
    assert reported[0].startswith("lb-01: ")
    assert words in reported[0]


class Passwords(paramiko.ServerInterface):
    """An SSH server that accepts only passwords."""

    def get_allowed_auths(self, username: str) -> str:
        return "password"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return AUTH_FAILED

    def check_auth_none(self, username: str) -> int:
        return AUTH_FAILED


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Endpoint]:
    """An SSH server on the loopback interface."""
    key = paramiko.ECDSAKey.generate()
    (tmp_path / "id").write_text("")
    user = paramiko.ECDSAKey.generate()
    user.write_private_key_file(str(tmp_path / "user"))
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            transport = paramiko.Transport(sock)
            transport.add_server_key(key)
            try:
                transport.start_server(event=threading.Event(), server=Passwords())
            except paramiko.SSHException:
                sock.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield Endpoint(
        "127.0.0.1", listening.getsockname()[1], "me", tmp_path / "user", public_key_line(key)
    )
    listening.close()


def check(lab: Lab, endpoint: Endpoint, *, pin: bool = False) -> tuple[Endpoint, list[str]]:
    checked, problems = check_machine(lab.machines[0], endpoint, accept_keys=pin)
    return checked, [p.what for p in problems]


def test_an_unknown_host_key_is_pinned_only_with_pin(lab: Lab, sshd: Endpoint) -> None:
    unknown = replace(sshd, host_key="")
    endpoint, reported = check(lab, unknown)
    assert "the host key of 127.0.0.1 is unknown (ecdsa-sha2-nistp256 SHA256:" in reported[0]
    assert endpoint.host_key == ""
    endpoint, reported = check(lab, unknown, pin=True)
    assert endpoint.host_key == sshd.host_key
    assert "does not accept public keys (password only)" in reported[0]


def test_another_host_key_is_refused_even_with_pin(lab: Lab, sshd: Endpoint) -> None:
    other = replace(sshd, host_key=public_key_line(paramiko.ECDSAKey.generate()))
    for pin in (False, True):
        endpoint, reported = check(lab, other, pin=pin)
        assert "presents another host key" in reported[0]
        assert "nothing was sent to it" in reported[0]
        assert endpoint == other


def test_no_ssh_server_or_no_route(lab: Lab, sshd: Endpoint) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert "no SSH server responds at 127.0.0.1 port" in check(lab, replace(sshd, port=port))[1][0]
    assert (
        "no-such-name.invalid cannot be resolved"
        in check(lab, replace(sshd, address="no-such-name.invalid"))[1][0]
    )


def test_existing_machines_are_never_stopped_or_removed(lab: Lab, tmp_path: Path) -> None:
    here = replace(lab, root=tmp_path)
    provider = SshProvider()

    def quiet(machine: str, doing: str) -> None: ...

    calls: list[Callable[[], object]] = [
        lambda: provider.destroy(here, quiet),
        lambda: provider.halt(here, quiet),
        lambda: provider.kill(here, "lb-01"),
        lambda: provider.start(here, "lb-01"),
        lambda: provider.snapshot(here, "a", quiet),
        lambda: provider.prepare_restore(here, "a", {}, quiet),
        lambda: provider.restore(here, "a", {}, quiet),
    ]
    for call in calls:
        with pytest.raises(ProviderError, match="provider ssh cannot"):
            call()
    assert provider.state(here) == {"lb-01": "absent", "web-01": "absent"}
    assert provider.endpoints(here) == {}
    assert provider.network_problem(here) == "its machines have not been checked yet"


def test_inventory_and_pin_are_for_existing_machines_only() -> None:
    ssh = SshProvider()
    providers.set_ssh_options(ssh, "file.yml", True)
    assert (ssh.inventory, ssh.pin) == ("file.yml", True)
    providers.set_ssh_options(providers.provider("lxc"), "", False)
    with pytest.raises(UsageError, match="provider lxc creates its own"):
        providers.set_ssh_options(providers.provider("lxc"), "file.yml", False)
