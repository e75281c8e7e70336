"""The load balancer: HAProxy distributes requests over the web servers and checks their health."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from provision.core import capacity, headers, timeouts
from provision.core.lab import Machine
from provision.core.package_set import PackageSet
from provision.engine.agent.protocol import Readiness
from provision.engine.context import Context
from provision.engine.plan import Resource, Unit
from provision.engine.resources import File, NoFile, OwnedDirectory, Service
from provision.engine.role import Allow, Role, Sandbox, Tier
from provision.services.app.interface import application
from provision.services.haproxy.interface import (
    BACKEND,
    SERVICE,
    SOCKET,
    STATIC_BACKEND,
    WEIGHT,
)
from provision.services.haproxy.runtime_state import ServerStates
from provision.services.tls import interface as tls

CONFIG = "/etc/haproxy/haproxy.cfg"
DROP_IN = f"/etc/systemd/system/{SERVICE}.d/lab.conf"
PEERS_PORT = 1024
"""The port of HAProxy's peers protocol between balancers (configuration manual, "peers")."""


@dataclass(frozen=True)
class BackendServer:
    """One ``server`` line of a backend.

    Args:
        destination: address and port, and over TLS the name in its certificate.
        slots: ``maxconn``, the requests that it serves at once.
        options: such as `` disabled``.
    """

    name: str
    destination: str
    weight: int
    slots: int
    options: str


def backend_servers(context: Context) -> tuple[BackendServer, ...]:
    """The backend's servers with their recorded weights and admin states."""
    servers = []
    https = context.lab.topology.https
    for machine in context.lab.with_role("nginx"):
        destination = f"{machine.address}:{443 if https else 80}"
        destination += f" verifyhost {machine.name}" if https else ""
        slots = capacity.server_slots(context.lab, machine, application(context).slots)
        admin = context.state.admin.get(machine.name)
        weight = 0 if admin == "drain" else context.state.weights.get(machine.name, WEIGHT)
        options = " disabled" if admin == "maint" else ""
        servers.append(BackendServer(machine.name, destination, weight, slots, options))
    return tuple(servers)


def server_states(context: Context) -> tuple[tuple[str, str], ...]:
    """The recorded state of each server at run time: ``drain``, ``maint`` or ``weight N``."""
    states = []
    for machine in context.lab.with_role("nginx"):
        admin = context.state.admin.get(machine.name, "ready")
        weight = context.state.weights.get(machine.name, WEIGHT)
        states.append((machine.name, f"weight {weight}" if admin == "ready" else admin))
    return tuple(states)


def balance_keyword(context: Context) -> str:
    """The value of HAProxy's ``balance`` (configuration manual, "balance").

    Active-passive is ``first``: the first server that is up gets every request, and a request that
    fails there is retried on the next one at once. A server marked ``backup`` instead gets requests
    only after health checks have found the active one down, and reads fail until then: measured
    22 of 190 when gunicorn's socket was closed, against none.
    """
    return "first" if context.balance.mode == "active-passive" else context.balance.algorithm


def with_digest(config: str, other_files: Iterable[Resource[Any]]) -> tuple[str, str]:
    """The configuration with a digest in ``description``, which the running process reports.

    After a reload returns, the old process answers on the runtime socket until the new one has it
    (management guide, 4, "Stopping and restarting HAProxy"); the digest tells them apart.
    """
    loaded = [config, *(str(dict(resource.expected())) for resource in other_files)]
    digest = hashlib.sha256("\0".join(loaded).encode()).hexdigest()[:16]
    return config.replace("\nglobal\n", f"\nglobal\n    description {digest}\n", 1), digest


def _busy(context: Context, machine: Machine, kind: str) -> str:
    """Nginx's page or object for a 503, as one line of a single-quoted log-format string."""
    text = context.render(f"nginx/503.{kind}.j2", machine)
    return " ".join(text.split()).replace("%", "%%").replace("'", "’")


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """One configuration file, validated before a reload; the servers' state at run time."""
    busy = {kind: _busy(context, machine, kind) for kind in ("html", "json")}
    config = context.render(
        "haproxy/haproxy.cfg.j2",
        machine,
        servers=backend_servers(context),
        balance=balance_keyword(context),
        peers=context.lab.with_role("haproxy"),
        peers_port=PEERS_PORT,
        tls=tls,
        headers=headers,
        policy=headers.policy_with_styles(*busy.values()),
        timeouts=timeouts.TIMEOUTS,
        times=timeouts,
        capacity=capacity,
        queue_bound=capacity.queue_bound(context.lab, application(context).slots),
        busy=busy,
    )
    drop_in = context.render("system/stop.conf.j2", machine, seconds=timeouts.SERVICE_STOP_SECONDS)
    certificates = tls.certificate_files(context, machine)
    config, digest = with_digest(config, certificates)
    return (
        Unit(
            "haproxy",
            (
                *certificates,
                OwnedDirectory("/etc/haproxy/conf.d", ("*.cfg",), service=True),
                File(CONFIG, config),
                File(DROP_IN, drop_in, passive=True),
                Service(SERVICE),
            ),
            service=SERVICE,
            activate="reload",
            validate=("haproxy", "-c", "-f", CONFIG),
            readiness=Readiness(
                "HAProxy's runtime socket",
                deadline=15,
                socket=SOCKET,
                contains=f"description: {digest}",
            ),
            needs=_needs(context, machine),
        ),
        Unit(
            "haproxy-servers",
            tuple(
                ServerStates(SOCKET, backend, server_states(context))
                for backend in (BACKEND, STATIC_BACKEND)
            ),
        ),
    )


def _needs(context: Context, machine: Machine) -> tuple[str, ...]:
    """While the lab serves: balancers change one after the other, and after the web servers."""
    if not context.rolling:
        return ()
    balancers = context.lab.with_role("haproxy")
    needs = [f"{m.name}/haproxy" for m in balancers[: balancers.index(machine)]]
    if context.lab.topology.https:
        # A web server enables TLS before a balancer that already serves uses it.
        needs += [f"{m.name}/nginx" for m in context.lab.with_role("nginx")]
    return tuple(needs)


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """HAProxy is stopped."""
    return (Unit("haproxy-gone", (Service(SERVICE, running=False), NoFile(DROP_IN))),)


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """The site, from everywhere. Monitoring itself opens the statistics port where it needs it."""
    allowed = [Allow(80, (), "HTTP for everybody")]
    if context.lab.topology.https:
        allowed.append(Allow(443, (), "HTTPS for everybody"))
    peers = tuple(str(m.address) for m in context.lab.with_role("haproxy") if m != machine)
    if peers:
        allowed.append(Allow(PEERS_PORT, peers, "stick tables of the other balancer"))
    return tuple(allowed)


ROLE = Role(
    "haproxy",
    70,
    units,
    absent,
    packages=lambda *_: PackageSet(("haproxy",)),
    ports=ports,
    memory=25,
    service=SERVICE,
    label="HAProxy",
    tier=Tier(
        "load balancer",
        lambda lab: "HTTPS, port 443" if lab.topology.https else "HTTP, port 80",
    ),
    sandbox=Sandbox(
        "root binds ports and reads keys, workers are the user haproxy; clients are anywhere",
        writes="/run /var/lib/haproxy",
        capabilities="CAP_DAC_OVERRIDE CAP_KILL CAP_NET_BIND_SERVICE CAP_SETGID CAP_SETUID",
        calls="@setuid @chown",
        peers="all",
        jit=True,
        umask="0022",
    ),
    fault_units=(SERVICE,),
    data=("/etc/haproxy",),
)
