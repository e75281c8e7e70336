"""Asking a running lab how it is: requests through the balancer, and one gather a machine.

Nothing is judged here; provision/checks understands what was seen.
"""

from __future__ import annotations

import http.client
import secrets
import time
from collections.abc import Mapping
from typing import Any

from provision import registry as roles
from provision.checks import monitored, secured
from provision.checks.observation import Page, Seen, alternates
from provision.core.errors import HostError
from provision.core.lab import Lab, Machine
from provision.core.patience import patience
from provision.database.failover import role as autopromote
from provision.database.failover.agent.witness import WORD
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.services.dns.names import ask as ask_name
from provision.services.haproxy.role import SOCKET
from provision.services.keepalived import role as keepalived
from provision.services.tls import role as tls
from provision.services.tls.https import Shown, connect, handshake

WAIT = 3.0 * patience()
"""Seconds for an answer to a question that one machine asks another."""

ROUNDS = 3
"""How often the alternation of servers is tried; other users' requests may come in between."""

STATIC = "/static/foobar.css"


def request(
    lab: Lab,
    path: str,
    method: str = "GET",
    *,
    address: str = "",
    timeout: float = 5.0,
    plain: bool = False,
) -> Page:
    """One request to the lab's front (or another address), as the site's own name.

    Args:
        lab: whose network must be up: see ``Provider.link_problem``.
        path: with its query.
        method: GET, PUT …
        address: instead of the front's.
        timeout: seconds for connecting and for each read.
        plain: without TLS, whatever the topology says.
    """
    connection: http.client.HTTPConnection | None = None
    try:
        connection = connect(lab, address or str(lab.address), timeout * patience(), plain=plain)
        connection.request(method, path, headers={"Host": lab.site, "Accept": "text/html"})
        answer = connection.getresponse()
        body = answer.read(65536).decode(errors="replace")
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Page(answer.status, headers, body)
    except (OSError, http.client.HTTPException) as error:
        return Page(error=str(error) or repr(error))
    finally:
        if connection is not None:
            connection.close()


def observe(
    context: Context, fleet: Fleet, states: Mapping[str, str], *, requests_too: bool = True
) -> Seen:
    """Ask everything once.

    Args:
        context: the lab.
        fleet: its running machines.
        states: the provider's word on each machine.
        requests_too: False leaves out requests and the marker row, for a quick look.
    """
    lab = context.lab
    rounds: list[tuple[Page, ...]] = []
    pages: dict[str, Page] = {}
    named: dict[str, str] = {}
    shown: Shown | None = None
    marker = secrets.token_hex(8)
    if requests_too:
        servers = len(lab.with_role("nginx"))
        for _ in range(ROUNDS):
            rounds.append(tuple(request(lab, "/") for _ in range(2 * servers)))
            if alternates(rounds[-1], servers):
                break
        pages["static"] = request(lab, STATIC)
        pages["missing"] = request(lab, "/no-such-page")
        pages["marker"] = request(lab, f"/api/markers/{marker}", "PUT")
        for server in lab.with_role("dns"):
            reply = ask_name(str(server.address), lab.site)
            named[server.name] = " ".join(reply.values("A")) or reply.error or reply.code
        if lab.topology.https:
            pages["redirect"] = request(lab, "/", plain=True)
            shown = handshake(lab)
        for database in lab.with_role("mysql"):
            # Elsewhere the web server on the same machine is asked, without the way through here.
            if "nginx" not in database.roles:
                path = f"/api/markers/{marker}?from={database.name}"
                pages[f"marker/{database.name}"] = _until(lab, path)
    asked_marker = marker if pages.get("marker", Page()).status in (200, 201) else ""

    errors: dict[str, str] = {m.name: "" for m in lab.machines if m.name not in fleet.hosts}

    def ask(host: Host) -> Mapping[str, Any]:
        machine = lab.machine(host.name)
        names, probes = _questions(context, machine, asked_marker if requests_too else "")
        try:
            return {**host.gather(probes), "names": names}
        except HostError as error:
            errors[host.name] = error.what
            return {}

    answers = fleet.each(ask)
    return Seen(states, answers, errors, tuple(rounds), pages, named, shown)


def _until(lab: Lab, path: str, patience: float = 5.0) -> Page:
    """A page that is asked for until it is there, at most ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while True:
        page = request(lab, path)
        if page.status == 200 or time.monotonic() > deadline:
            return page
        time.sleep(0.05)


def _questions(
    context: Context, machine: Machine, marker: str
) -> tuple[dict[str, int], dict[str, list[dict[str, Any]]]]:
    """The probes for one machine, and under which names its HTTP answers are found."""
    lab = context.lab
    probes: dict[str, list[dict[str, Any]]] = {
        "service": [
            {"name": name}
            for name in (*roles.services(machine), *autopromote.services(context, machine))
        ],
        "command": [{"argv": ["df", "--output=pcent", "/"]}, {"argv": ["cat", "/proc/uptime"]}],
    }
    http_questions: list[dict[str, Any]] = []
    names: dict[str, int] = {}

    def ask(name: str, address: str, path: str, **more: Any) -> None:
        names[name] = len(http_questions)
        question = {"address": address, "path": path, "host": lab.site, "timeout": WAIT}
        if lab.topology.https and address != "127.0.0.1":
            question |= {"port": 443, "ca": tls.CA}
        http_questions.append(question | more)

    if machine == lab.front:
        for web in lab.with_role("nginx"):
            ask(f"healthz/{web.name}", str(web.address), "/healthz")
            ask(f"version/{web.name}", str(web.address), "/version")
    if "keepalived" in machine.roles:
        where = ["dev", keepalived.interface(context), "to", str(lab.address)]
        argv = ["ip", "-4", "-oneline", "address", "show", *where]
        probes["command"].append({"argv": argv})
    if "haproxy" in machine.roles:
        probes["socket"] = [{"path": SOCKET, "line": "show stat"}]
    if "mysql" in machine.roles:
        probes["mysql"] = [{"want": "server"}]
        if marker and "nginx" in machine.roles:
            path = f"/api/markers/{marker}?from=local"
            ask("marker", "127.0.0.1", path, until=200, patience=5.0)
    if autopromote.wanted(context) and machine == autopromote.supervisor(lab):
        probes["command"].append({"argv": ["cat", WORD]})
    probes |= secured.questions(context, machine)
    if "monitoring" in machine.roles:
        for name, address, port, path in monitored.questions(lab, machine):
            ask(name, address, path, port=port, ca="")
    if http_questions:
        probes["http"] = http_questions
    return names, probes
