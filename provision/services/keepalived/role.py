"""The virtual address of several balancers: keepalived assigns it to one that can serve.

A balancer whose HAProxy has no server does not take the address. When no balancer has one, it stays
where it is (`configs/keepalived/check-haproxy.j2`).

VRRP (RFC 9568) by unicast between the balancers, with an advertisement every 0.2 s. After a holder
fails silently, the takeover lasts some 0.7 s; one that stops sends priority 0 and is replaced at
once. There is no preemption: moving the address back would be a second interruption.

VRRP alone would lose requests: for a moment no machine has the address, and the new holder resets
the connections of the old one. So every balancer has the address on its loopback interface
(`ADDRESS_SERVICE`), and a holder that is about to stop forwards new connections and finishes its
own first (`HANDOVER`).
"""

from __future__ import annotations

from provision.core.errors import LabError
from provision.core.lab import Machine
from provision.core.package_set import PackageSet
from provision.core.timeouts import SERVICE_STOP_SECONDS, TIMEOUTS
from provision.engine.context import Context
from provision.engine.plan import Unit
from provision.engine.resources import File, NoFile, Service
from provision.engine.resources.removal import NoService
from provision.engine.role import Allow, Role
from provision.services.haproxy import interface as haproxy
from provision.services.keepalived.interface import SERVICE, network_interface

CONFIG = "/etc/keepalived/keepalived.conf"
CHECK_SCRIPT = "/usr/local/lib/foobar-lab/check-haproxy"
HANDOVER = "/usr/local/lib/foobar-lab/graceful-handover"
HAPROXY_DROP_IN = f"/etc/systemd/system/{haproxy.SERVICE}.d/lab-keepalived.conf"
DROP_IN = f"/etc/systemd/system/{SERVICE}.d/lab.conf"
STATE_FILE = "/run/haproxy-state"
"""Holds 0 while HAProxy runs, and 1 once it has stopped."""

ADDRESS_SERVICE = "lab-virtual-address.service"

HIGHEST_PRIORITY = 150

DRAIN_SECONDS = 6
"""The time for existing connections to finish: HAProxy closes an idle one after 5 s."""

ARP_SECONDS = 1.2
"""Until every neighbor has the new holder's gratuitous ARP, which is sent at once and after 1 s."""


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """VRRP from the other balancers, an IP protocol without ports, and their readiness checks."""
    peers = _peers(context, machine)
    return (
        Allow(0, peers, "VRRP between the balancers", "vrrp"),
        Allow(haproxy.STATISTICS_PORT, peers, "whether the other balancer can serve"),
    )


def _peers(context: Context, machine: Machine) -> tuple[str, ...]:
    return tuple(str(m.address) for m in context.lab.with_role("keepalived") if m != machine)


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The address on the loopback interface, and keepalived with its scripts."""
    lab = context.lab
    if lab.topology.virtual_address is None:
        raise LabError(f"{lab.topology.path}: keepalived requires a virtual_address")
    position = lab.with_role("keepalived").index(machine)
    peers = _peers(context, machine)
    values = {
        "port": haproxy.STATISTICS_PORT,
        "path": haproxy.READY_PATH,
        "seconds": f"{TIMEOUTS.readiness / 1000:g}",
        # HAProxy, the peers, the neighbors: one after the other.
        "script_seconds": -(-3 * TIMEOUTS.readiness // 1000),
        "neighbors": (*peers, *(str(m.address) for m in lab.with_role("nginx"))),
        "interface": network_interface(context),
        "router_id": lab.topology.virtual_address.packed[-1],
        "priority": HIGHEST_PRIORITY - 10 * position,
        "peers": peers,
        "check_script": CHECK_SCRIPT,
        "state_file": STATE_FILE,
        "handover": HANDOVER,
        "address_service": ADDRESS_SERVICE,
        "socket": haproxy.SOCKET,
        "drain_seconds": DRAIN_SECONDS,
        "arp_seconds": ARP_SECONDS,
        "stop_seconds": SERVICE_STOP_SECONDS,
    }

    def text(name: str) -> str:
        return context.render(f"keepalived/{name}.j2", machine, **values)

    address = File(f"/etc/systemd/system/{ADDRESS_SERVICE}", text(ADDRESS_SERVICE))
    return (
        Unit(
            "virtual-address",
            (address, Service(ADDRESS_SERVICE)),
            service=ADDRESS_SERVICE,
            activate="restart",
        ),
        Unit(
            "keepalived",
            (
                File(CHECK_SCRIPT, text("check-haproxy"), mode="0755"),
                File(HANDOVER, text("graceful-handover"), mode="0755", passive=True),
                File(HAPROXY_DROP_IN, text("haproxy.service"), passive=True),
                File(DROP_IN, text("keepalived.service"), passive=True),
                File(CONFIG, text("keepalived.conf")),
                Service(SERVICE),
            ),
            service=SERVICE,
            activate="reload",
            validate=("keepalived", "--config-test", "--use-file", CONFIG),
        ),
    )


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """Nothing of keepalived, and no virtual address."""
    files = (CONFIG, CHECK_SCRIPT, HAPROXY_DROP_IN, DROP_IN, HANDOVER)
    return (
        Unit(
            "keepalived-gone",
            (
                Service(SERVICE, running=False),
                *(NoFile(path) for path in files),
                NoService(ADDRESS_SERVICE),
            ),
        ),
    )


ROLE = Role(
    "keepalived",
    80,
    units,
    absent,
    packages=lambda *_: PackageSet(("keepalived", "nftables", "socat")),
    ports=ports,
    service=SERVICE,
)
