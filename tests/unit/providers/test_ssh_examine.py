"""Whether an existing machine will do, from what it answers; and a real sshd's greeting."""

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
from provision.providers.ssh.examine import examine, understand, unfit
from provision.providers.ssh.sources import key_line

GOOD = """\
Welcome to this machine = a greeting
release=debian 13
python=yes
sudo=yes
systemd=yes
addresses=203.0.113.7 192.168.56.10 fd00::1
"""


def problems(lab: Lab, text: str) -> list[str]:
    return [p.what for p in unfit(lab.machines[0], "debian", understand(text))]


def test_a_machine_that_will_do(lab: Lab) -> None:
    assert problems(lab, GOOD) == []


@pytest.mark.parametrize(
    ("line", "instead", "words"),
    [
        ("release=debian 13", "release=debian 12", "it runs debian 12, and a lab needs Debian 13"),
        ("release=debian 13", "release=ubuntu 24.04", "it runs ubuntu 24.04"),
        ("release=debian 13", "release= ", "no system that can be told"),
        ("python=yes", "", "there is no python3"),
        ("sudo=yes", "", "debian may not use sudo without a password"),
        ("systemd=yes", "", "systemd does not run there"),
        ("192.168.56.10 ", "", "it does not have the address 192.168.56.10"),
    ],
)
def test_what_a_machine_lacks_is_named(lab: Lab, line: str, instead: str, words: str) -> None:
    found = problems(lab, GOOD.replace(line, instead))
    assert len(found) == 1
    assert found[0].startswith("lb-01: ")
    assert words in found[0]


class Passwords(paramiko.ServerInterface):
    """An sshd that takes passwords only."""

    def get_allowed_auths(self, username: str) -> str:
        return "password"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return AUTH_FAILED

    def check_auth_none(self, username: str) -> int:
        return AUTH_FAILED


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Endpoint]:
    """An sshd on this host's loopback; a new one a connection."""
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
    yield Endpoint("127.0.0.1", listening.getsockname()[1], "me", tmp_path / "user", key_line(key))
    listening.close()


def look(lab: Lab, endpoint: Endpoint, *, pin: bool = False) -> tuple[Endpoint, list[str]]:
    found, why = examine(lab, lab.machines[0], endpoint, pin)
    return found, [p.what for p in why]


def test_a_host_key_is_pinned_only_when_that_is_asked_for(lab: Lab, sshd: Endpoint) -> None:
    unknown = replace(sshd, host_key="")
    endpoint, found = look(lab, unknown)
    assert "the host key of 127.0.0.1 is not known (ecdsa-sha2-nistp256 SHA256:" in found[0]
    assert endpoint.host_key == ""
    endpoint, found = look(lab, unknown, pin=True)
    assert endpoint.host_key == sshd.host_key
    assert "takes no keys (password only)" in found[0]


def test_a_wrong_host_key_is_refused_also_when_pinning_is_asked_for(
    lab: Lab, sshd: Endpoint
) -> None:
    other = replace(sshd, host_key=key_line(paramiko.ECDSAKey.generate()))
    for pin in (False, True):
        endpoint, found = look(lab, other, pin=pin)
        assert "shows another host key" in found[0]
        assert "nothing was sent to it" in found[0]
        assert endpoint == other


def test_nobody_listens(lab: Lab, sshd: Endpoint) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert "no sshd answers at 127.0.0.1 port" in look(lab, replace(sshd, port=port))[1][0]
    assert (
        "has no route to no-such-name.invalid"
        in look(lab, replace(sshd, address="no-such-name.invalid"))[1][0]
    )


def test_what_would_take_machines_away_is_refused(lab: Lab, tmp_path: Path) -> None:
    here = replace(lab, root=tmp_path)
    provider = SshProvider()

    def quiet(machine: str, doing: str) -> None: ...

    calls: list[Callable[[], None]] = [
        lambda: provider.destroy(here, quiet),
        lambda: provider.halt(here, quiet),
        lambda: provider.kill(here, "lb-01"),
        lambda: provider.start(here, "lb-01"),
        lambda: provider.snapshot(here, "a", quiet),
        lambda: provider.restore(here, "a", quiet),
    ]
    for call in calls:
        with pytest.raises(ProviderError, match=r"exist without it \(provider ssh\)"):
            call()
    assert provider.state(here) == {"lb-01": "absent", "web-01": "absent"}
    assert provider.endpoints(here) == {}
    assert provider.link_problem(here) == "its machines have not been looked at yet"


def test_inventory_and_pin_are_for_existing_machines_alone() -> None:
    ssh = SshProvider()
    providers.tell(ssh, "file.yml", True)
    assert (ssh.inventory, ssh.pin) == ("file.yml", True)
    providers.tell(providers.provider("lxc"), "", False)
    with pytest.raises(UsageError, match="provider lxc makes its own"):
        providers.tell(providers.provider("lxc"), "file.yml", False)
