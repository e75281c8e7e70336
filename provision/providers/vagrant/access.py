"""The first login on a new virtual machine, over Vagrant's own way.

Its host key is read and pinned, and the lab's key is let in: afterwards SSH needs no Vagrant.
"""

from __future__ import annotations

import shlex
import time

import paramiko

from provision.core.endpoint import Endpoint
from provision.core.errors import HostError, ProviderError
from provision.engine.host import CONNECT_TIMEOUT, Host
from provision.providers.ssh.sources import key_line
from provision.providers.vagrant.client import Way

ALLOW = """
umask 077; mkdir -p ~/.ssh; touch ~/.ssh/authorized_keys; read -r line
grep -qxF "$line" ~/.ssh/authorized_keys || printf '%s\\n' "$line" >>~/.ssh/authorized_keys
"""


def introduce(name: str, way: Way, key: str) -> str:
    """Log in over Vagrant's own SSH settings, once.

    The way leads over this host's loopback or the provider's own network, so nobody else can
    answer there; the key that is shown is the one that is pinned from now on.

    Args:
        name: the machine, for messages.
        way: Vagrant's.
        key: the lab's line for authorized_keys.

    Returns:
        The machine's host key.

    Raises:
        ProviderError: when the login fails.
    """
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(_Take())
    try:
        client.connect(
            way.address,
            way.port,
            way.user,
            # paramiko's documentation allows several, its types do not know
            key_filename=[str(path) for path in way.keys if path.is_file()],  # type: ignore[arg-type]
            look_for_keys=False,
            allow_agent=False,
            timeout=CONNECT_TIMEOUT,
            banner_timeout=60,
            auth_timeout=60,
        )
        stdin, stdout, stderr = client.exec_command(f"sh -c {shlex.quote(ALLOW)}", timeout=60)
        stdin.write(key.strip() + "\n")
        stdin.flush()
        stdin.channel.shutdown_write()
        if stdout.channel.recv_exit_status() != 0:
            said = stderr.read().decode(errors="replace")
            raise ProviderError(f"{name}: the lab's key could not be let in", output=said)
        transport = client.get_transport()
        assert transport is not None
        return key_line(transport.get_remote_server_key())
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise ProviderError(
            f"{name}: login as {way.user} at {way.address} port {way.port}, as Vagrant does it, "
            f"failed ({error or type(error).__name__})",
            f"vagrant ssh {name}",
        ) from None
    finally:
        client.close()


class _Take(paramiko.MissingHostKeyPolicy):
    """Take the key as it is shown: this is the one time that it is read."""

    def missing_host_key(
        self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey
    ) -> None:
        """Nothing to refuse."""


def wait(name: str, endpoint: Endpoint, seconds: float) -> None:
    """Wait until a machine lets us in at the lab's own address with the pinned key.

    Raises:
        ProviderError: when it does not in time; a wrong host key is said at once.
    """
    deadline = time.monotonic() + seconds
    while True:
        with Host(name, endpoint) as host:
            try:
                host.connect()
                return
            except HostError as error:
                if "another host key" in error.what or time.monotonic() > deadline:
                    raise ProviderError(
                        f"{name} runs, but not as it should at {endpoint.address}: {error.what}",
                        "is the host-only network up? invoke lab.doctor --host; vagrant ssh "
                        f"{name} -- ip -brief address",
                    ) from None
        time.sleep(0.5)


def set_clock(name: str, endpoint: Endpoint) -> None:
    """Set a machine's clock to ours when it is off: a restored machine goes on where it was."""
    with Host(name, endpoint) as host:
        now = time.time()
        there = host.run("date", "+%s")
        if there.out.strip().isdigit() and abs(float(there.out) - now) > 2:
            host.run("date", "--utc", "--set", f"@{int(time.time())}")
