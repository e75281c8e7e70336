"""Helpers of the tests of the topology ``secured``."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from provision.core.lab import ROOT, Machine
from tests.live.conftest import RunningLab


def machines(lab: RunningLab) -> dict[str, Machine]:
    """The lab's machines by name."""
    return {m.name: m for m in lab.session().lab.machines}


def planned(lab: RunningLab) -> str:
    """The output of lab.plan; empty if there are no changes."""
    result = lab.invoke("lab.plan", "--detailed-exitcode", check=False)
    assert result.returncode in (0, 3), result.stderr
    return result.stdout if result.returncode else ""


def admitting(folder: Path, ssh_from: str) -> str:
    """A topology file like ``secured``, with another network that may connect to sshd.

    Args:
        folder: where to write it.
        ssh_from: a network.
    """
    text = (ROOT / "configs" / "topologies" / "secured.yml").read_text()
    path = folder / "secured.yml"
    path.write_text(text.replace("https: true", f"https: true\nssh_from: [{ssh_from}]", 1))
    return str(path)


@dataclass
class KeptConnection:
    """Requests every second on one connection, reopened only when a response announces its end."""

    http: http.client.HTTPConnection
    headers: dict[str, str]
    connections: int = 1
    statuses: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        """Send requests until stopped; an unannounced end is an error."""
        while not stop.is_set():
            try:
                self.http.request("GET", "/version", headers=self.headers)
                response = self.http.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as error:
                self.errors.append(repr(error))
                return
            self.statuses.append(response.status)
            if response.will_close:
                self.connections += 1
            stop.wait(1)


@contextmanager
def kept_connection(lab: RunningLab, *, https: bool) -> Iterator[KeptConnection]:
    """A client that keeps its connection to the balancer while the body runs.

    HAProxy ends a connection that is idle for ``timeout http-keep-alive``, hence the requests.
    """
    session = lab.session()
    address, headers = str(session.lab.address), {"Host": session.lab.site}
    client: http.client.HTTPConnection = http.client.HTTPConnection(address, timeout=10)
    if https:
        context = ssl.create_default_context(cafile=str(session.lab.directory / "ca.pem"))
        client = http.client.HTTPSConnection(address, timeout=10, context=context)
    kept, stop = KeptConnection(client, headers), threading.Event()
    thread = threading.Thread(target=kept.run, args=(stop,))
    thread.start()
    try:
        yield kept
    finally:
        stop.set()
        thread.join(15)
        client.close()
