"""The load balancer: HAProxy spreads requests over the web servers and watches their health."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from provision.core.lab import Machine
from provision.core.package_set import PackageSet
from provision.engine.context import Allow, Context
from provision.engine.plan import Resource, Unit
from provision.engine.resources import File, ServerStates, Service
from provision.services.tls import role as tls

CONFIG = "/etc/haproxy/haproxy.cfg"
SERVICE = "haproxy.service"
SOCKET = "/run/haproxy/admin.sock"
MASTER = "/run/haproxy-master.sock"
"""Debian's unit names it: the process above the workers, which knows those of before a reload."""
PEERS = 1024
"""The port of HAProxy's own protocol between balancers (configuration manual, "peers")."""

FRONTEND = "www"
BACKEND = "web"
WEIGHT = 1
"""A server's weight unless ``lb.weight`` recorded another; HAProxy allows 0 to 256.

It is small on purpose: a server that was down for a moment gets no request until the round that it
missed is over, and a round is as long as the weights are large (configuration manual, "balance
roundrobin"). With 100, twenty seconds of requests were once not enough; with 1 it is a handful.
"""


@dataclass(frozen=True)
class Server:
    """One server line of the backend."""

    name: str
    address: str
    weight: int
    options: str


def packages(context: Context, machine: Machine) -> PackageSet:
    """HAProxy alone."""
    return PackageSet(("haproxy",))


def servers(context: Context) -> tuple[Server, ...]:
    """The backend's servers, with the weights and states that are recorded of them."""
    found = []
    for machine in context.lab.with_role("nginx"):
        options = " disabled" if context.state.admin.get(machine.name) == "maint" else ""
        weight = context.state.weights.get(machine.name, WEIGHT)
        if context.state.admin.get(machine.name) == "drain":
            weight = 0
        found.append(Server(machine.name, str(machine.address), weight, options))
    return tuple(found)


def balancing(context: Context) -> str:
    """HAProxy's word for how requests are spread (configuration manual, "balance").

    Active-passive is ``first``: the first server that is up gets every request, and a request that
    it fails goes to the next one at once. With a server marked ``backup`` instead, HAProxy asks it
    only when the health checks have found the active one down, and until then reads fail: measured
    22 of 190 when gunicorn's socket was closed, against none.
    """
    return "first" if context.balance.mode == "active-passive" else context.balance.algorithm


def marked(config: str, others: Iterable[Resource]) -> tuple[str, str]:
    """The configuration with a digest of itself in it, which the process that loaded it tells.

    A reload returns before the new process has the runtime socket: until then the old one answers
    there (management guide, 4, "Stopping and restarting HAProxy").

    Args:
        config: the text, with a section ``global``.
        others: what else the process loads.
    """
    loaded = [config, *(str(dict(each.expected())) for each in others)]
    digest = hashlib.sha256("\0".join(loaded).encode()).hexdigest()[:16]
    return config.replace("\nglobal\n", f"\nglobal\n    description {digest}\n", 1), digest


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """One configuration file, validated by HAProxy itself before a reload."""
    config = context.render(
        "haproxy/haproxy.cfg.j2",
        machine,
        servers=servers(context),
        balance=balancing(context),
        peers=context.lab.with_role("haproxy"),
        peer_port=PEERS,
        tls=tls,
    )
    config, mark = marked(config, tls.files(context, machine))
    return (
        Unit(
            "haproxy",
            (*tls.files(context, machine), File(CONFIG, config), Service("haproxy.service")),
            service="haproxy.service",
            activate="reload",
            validate=("haproxy", "-c", "-f", CONFIG),
            wait={
                "name": "HAProxy's runtime socket",
                "socket": SOCKET,
                "says": f"description: {mark}",
                "deadline": 15,
            },
            needs=_needs(context, machine),
        ),
        Unit("haproxy-servers", (ServerStates(SOCKET, BACKEND, states(context)),)),
    )


def _needs(context: Context, machine: Machine) -> tuple[str, ...]:
    """Who goes first in a lab that serves already."""
    if not context.rolling:
        return ()
    # Balancers one after the other: one of them has the shared address.
    before = context.lab.with_role("haproxy")[: context.lab.with_role("haproxy").index(machine)]
    found = [f"{m.name}/haproxy" for m in before]
    if context.lab.topology.https:
        # Web servers speak TLS before a balancer that serves already asks them to.
        found += [f"{m.name}/nginx" for m in context.lab.with_role("nginx")]
    return tuple(found)


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """No balancer where the topology wants none."""
    return (Unit("haproxy-gone", (Service(SERVICE, running=False),)),)


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """The site, for everybody. Its own page is closed; monitoring opens its numbers for itself."""
    site = [Allow(80, (), "HTTP for everybody")]
    if context.lab.topology.https:
        site.append(Allow(443, (), "HTTPS for everybody"))
    others = tuple(str(m.address) for m in context.lab.with_role("haproxy") if m != machine)
    if others:
        site.append(Allow(PEERS, others, "stick tables of the other balancer"))
    return tuple(site)


def states(context: Context) -> tuple[tuple[str, str], ...]:
    """What each server should be at run time: ``drain``, ``maint`` or ``weight N``."""
    found = []
    for machine in context.lab.with_role("nginx"):
        admin = context.state.admin.get(machine.name, "ready")
        weight = context.state.weights.get(machine.name, WEIGHT)
        found.append((machine.name, f"weight {weight}" if admin == "ready" else admin))
    return tuple(found)
