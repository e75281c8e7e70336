"""What scripts/doctor says of Incus: not configured, unreachable, or ready."""

from __future__ import annotations

import http.client
import json
import os
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from provision.setup import host_os
from provision.setup.incus_server import (
    ADD,
    SOCKETS,
    Remote,
    TlsConnection,
    UnixConnection,
    configuration,
    default_socket,
    not_configured,
    not_incus,
    socket_of,
    tls_context,
    unreachable,
    unreadable_certificates,
    untrusted,
)
from provision.setup.problem import PreflightProblem
from provision.setup.report import ProviderReport
from provision.setup.system import System

RESPONSE_SECONDS = 10.0
MACHINES = "system containers of an Incus server or cluster"
SELECT = "--provider incus"
NOT_CONFIGURED, UNREACHABLE = "not configured", "unreachable"


@dataclass(frozen=True)
class IncusFacts:
    """The server that a new lab would be on, and its response.

    Args:
        state: ``not configured`` or ``unreachable``; empty when the server responds.
        problem: None when the server can be used.
    """

    state: str = ""
    problem: PreflightProblem | None = None


def report(facts: IncusFacts) -> ProviderReport:
    """The report on Incus."""
    problems = (facts.problem,) if facts.problem else ()
    return ProviderReport("incus", MACHINES, SELECT, problems, facts.state)


def collect(system: System, environ: Mapping[str, str] = os.environ) -> IncusFacts:
    """Ask the server that LAB_INCUS names, else the one of this computer. Nothing is changed."""
    name = environ.get("LAB_INCUS", "").strip()
    if not name or "/" in name:
        file = Path(name or default_socket(environ))
        if not name and file in SOCKETS and not file.exists():
            return IncusFacts(NOT_CONFIGURED, not_configured(system))
        return _ask(Remote("", str(file)), environ)
    file = configuration(environ) / "config.yml"
    address = addresses(host_os.read_text(file)).get(name, "")
    if not address:
        what = f"LAB_INCUS is {name}, and {file} has no such remote"
        return IncusFacts(NOT_CONFIGURED, PreflightProblem(what, ADD.replace("NAME", name)))
    path = socket_of(address)
    remote = Remote("", path) if path else Remote(name, address, folder=str(file.parent))
    return _ask(remote, environ)


def addresses(text: str) -> dict[str, str]:
    """The addresses of the remotes in a ``config.yml``, as the program ``incus`` writes it."""
    # scripts/doctor runs before PyYAML is installed; afterwards, providers/incus/remote.py uses it.
    found: dict[str, str] = {}
    section, name, depth = "", "", 0
    for line in text.splitlines():
        match = re.match(r"( *)([^\s:#][^:]*):(?:\s+(.*\S))?\s*$", line)
        if not match:
            continue
        indent, key, value = len(match[1]), match[2].strip("\"'"), (match[3] or "").strip("\"'")
        if indent == 0:
            section, name, depth = key, "", 0
        elif section == "remotes" and (not depth or indent == depth):
            name, depth = key, indent
        elif section == "remotes" and key == "addr":
            found[name] = value
    return found


def _ask(remote: Remote, environ: Mapping[str, str]) -> IncusFacts:
    try:
        context = None if remote.socket else tls_context(remote)
    except OSError as error:
        return IncusFacts(UNREACHABLE, unreadable_certificates(remote, error))
    connection: http.client.HTTPConnection
    if context is None:
        connection = UnixConnection(remote.socket, RESPONSE_SECONDS)
    else:
        connection = TlsConnection(
            remote.host, remote.port, timeout=RESPONSE_SECONDS, context=context
        )
    try:
        with closing(connection):
            connection.request("GET", "/1.0")
            response = connection.getresponse()
            status, data = response.status, response.read()
    except PermissionError as error:
        return IncusFacts("", unreachable(remote, error, environ))
    except (OSError, http.client.HTTPException) as error:
        return IncusFacts(UNREACHABLE, unreachable(remote, error, environ))
    try:
        trusted = json.loads(data)["metadata"]["auth"] == "trusted"
    except (ValueError, KeyError, TypeError):
        return IncusFacts("", not_incus(remote, status))
    return IncusFacts("", None if trusted else untrusted(remote))
