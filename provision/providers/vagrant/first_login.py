"""The first login on a new virtual machine, with Vagrant's own SSH settings.

It pins the machine's host key and authorizes the lab's key, so that SSH needs no Vagrant later.
"""

from __future__ import annotations

import shlex
import time

import paramiko

from provision.core.endpoint import Endpoint
from provision.core.errors import HostError, HostKeyError, ProviderError
from provision.core.waiting import Timeout, timeout_factor, wait_until
from provision.engine.host import Host
from provision.engine.ssh import CONNECT_TIMEOUT
from provision.providers.ssh.endpoints import public_key_line
from provision.providers.ssh.host_key import SSH_ERRORS
from provision.providers.vagrant.client import SshSettings

LOGIN_SECONDS = 120.0 * timeout_factor()
"""From the end of ``vagrant up`` to a login at the lab's address."""

AUTHORIZE_KEY = """
umask 077; mkdir -p ~/.ssh; touch ~/.ssh/authorized_keys
while read -r line; do
grep -qxF "$line" ~/.ssh/authorized_keys || printf '%s\\n' "$line" >>~/.ssh/authorized_keys
done
"""


class _AcceptAnyKey(paramiko.MissingHostKeyPolicy):
    """Accept the presented host key: this is the only login at which it is not known."""

    def missing_host_key(self, *_: object) -> None:
        """Accept."""


def authorize_lab_key(name: str, settings: SshSettings, keys: str) -> str:
    """Authorize the lab's keys with a login over Vagrant's SSH settings; returns the host key.

    The connection goes over this host's loopback or the hypervisor's own network, so that no
    other machine can respond; the presented host key can be pinned.

    Args:
        keys: lines for ``authorized_keys``.

    Raises:
        ProviderError: when the login fails.
    """
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(_AcceptAnyKey())
    try:
        client.connect(
            settings.address,
            settings.port,
            settings.user,
            # paramiko documents that several are allowed; its types do not
            key_filename=[str(p) for p in settings.keys if p.is_file()],  # type: ignore[arg-type]
            look_for_keys=False,
            allow_agent=False,
            timeout=CONNECT_TIMEOUT,
            banner_timeout=60,
            auth_timeout=60,
        )
        stdin, stdout, stderr = client.exec_command(
            f"sh -c {shlex.quote(AUTHORIZE_KEY)}", timeout=60
        )
        stdin.write(keys.strip() + "\n")
        stdin.flush()
        stdin.channel.shutdown_write()
        if stdout.channel.recv_exit_status() != 0:
            text = stderr.read().decode(errors="replace")
            raise ProviderError(f"{name}: authorizing the lab's key failed", output=text)
        transport = client.get_transport()
        assert transport is not None
        return public_key_line(transport.get_remote_server_key())
    except SSH_ERRORS as error:
        raise ProviderError(
            f"{name}: login as {settings.user} at {settings.address} port {settings.port}, with "
            f"Vagrant's SSH settings, failed ({error or type(error).__name__})",
            f"vagrant ssh {name}",
        ) from None
    finally:
        client.close()


def wait_for_login(name: str, endpoint: Endpoint) -> None:
    """Wait until a login at the lab's own address with the pinned host key succeeds.

    Raises:
        ProviderError: at the deadline.
        HostKeyError: at once when the host key is another one.
    """
    errors = []

    def can_log_in() -> bool:
        with Host(name, endpoint) as host:
            try:
                host.connect()
            except HostKeyError:
                raise
            except HostError as error:
                errors.append(error.what)
                return False
        return True

    try:
        wait_until(can_log_in, LOGIN_SECONDS, f"a login on {name}", interval=0.5)
    except Timeout:
        raise ProviderError(
            f"{name} runs, but login at {endpoint.address} fails: {errors[-1]}",
            "check the host-only network: invoke lab.doctor --host; "
            f"vagrant ssh {name} -- ip -brief address",
        ) from None


def set_clock(name: str, endpoint: Endpoint) -> None:
    """Correct the clock of a restored machine, which continues at the time of its snapshot."""
    with Host(name, endpoint) as host:
        now = time.time()
        clock = host.run("date", "+%s").stdout.strip()
        if clock.isdigit() and abs(float(clock) - now) > 2:
            host.run("date", "--utc", "--set", f"@{int(time.time())}")
