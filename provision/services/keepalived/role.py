"""The address that several balancers share: keepalived gives it to one whose HAProxy answers.

VRRP (RFC 9568) by unicast between the balancers, an advertisement every 0.2 s: a silent holder is
followed in some 0.7 s, one that says goodbye at once. There is no preemption: whoever holds the
address keeps it until it fails, since handing it back would be a second interruption for nothing.

A goodbye alone would cost requests: for a moment nobody has the address, and the new holder resets
the connections of the old one. So every balancer has it silently (`SILENT`), and one that is about
to go passes new connections on and finishes its own first (`HANDOVER`).
"""

from __future__ import annotations

from provision.core.errors import LabError
from provision.core.lab import Machine
from provision.core.package_set import PackageSet
from provision.engine.context import Allow, Context
from provision.engine.plan import Unit
from provision.engine.resources import File, Gone, Service
from provision.engine.resources.removal import NoService
from provision.services.haproxy.role import SOCKET

CONFIG = "/etc/keepalived/keepalived.conf"
SCRIPT = "/usr/local/lib/foobar-lab/haproxy-answers"
HANDOVER = "/usr/local/lib/foobar-lab/hand-over"
DROP_IN = "/etc/systemd/system/haproxy.service.d/lab-keepalived.conf"
ORDER = "/etc/systemd/system/keepalived.service.d/lab.conf"
ENDED = "/run/haproxy-ended"
"""Holds 0 while HAProxy runs, and something else once it has ended."""

SERVICE = "keepalived.service"
INTERFACES = {"lxc": "eth0"}
"""The lab's network card by provider; Vagrant's machines have a card of Vagrant's own before it."""

SILENT = "lab-silent-address.service"

HIGHEST = 150

PATIENCE = 6
"""Seconds in which visitors who are there finish: HAProxy closes an idle connection after 5."""

HEARD = 1.2
"""Seconds until every neighbour has heard of a new holder: it says so at once, and 1 s later."""


def interface(context: Context) -> str:
    """The network card where the address is held."""
    return INTERFACES.get(context.state.provider, "eth1")


def packages(context: Context, machine: Machine) -> PackageSet:
    """Keepalived, and what hands the address over."""
    return PackageSet(("keepalived", "nftables", "socat"))


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """VRRP from the other balancers: a protocol of its own beside TCP and UDP, without ports."""
    return (Allow(0, _others(context, machine), "VRRP between the balancers", "vrrp"),)


def _others(context: Context, machine: Machine) -> tuple[str, ...]:
    return tuple(str(m.address) for m in context.lab.with_role("keepalived") if m != machine)


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The script that asks HAProxy, and the configuration, checked by keepalived itself."""
    lab = context.lab
    if lab.topology.virtual_address is None:
        raise LabError(f"{lab.topology.path}: keepalived without a virtual_address")
    members = lab.with_role("keepalived")
    values = {
        "interface": interface(context),
        "number": lab.topology.virtual_address.packed[-1],
        "priority": HIGHEST - 10 * members.index(machine),
        "others": _others(context, machine),
        "script": SCRIPT,
        "ended": ENDED,
        "handover": HANDOVER,
        "silent": SILENT,
        "socket": SOCKET,
        "patience": PATIENCE,
        "heard": HEARD,
    }

    def text(name: str) -> str:
        return context.render(f"keepalived/{name}.j2", machine, **values)

    return (
        Unit(
            "silent-address",
            (File(f"/etc/systemd/system/{SILENT}", text(SILENT)), Service(SILENT)),
            service=SILENT,
            activate="restart",
        ),
        Unit(
            "keepalived",
            (
                File(SCRIPT, text("haproxy-answers"), mode="0755"),
                File(HANDOVER, text("hand-over"), mode="0755", passive=True),
                File(DROP_IN, text("haproxy.service"), passive=True),
                File(ORDER, text("keepalived.service"), passive=True),
                File(CONFIG, text("keepalived.conf")),
                Service(SERVICE),
            ),
            service=SERVICE,
            activate="reload",
            validate=("keepalived", "--config-test", "--use-file", CONFIG),
        ),
    )


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """No address is held where the topology shares none."""
    return (
        Unit(
            "keepalived-gone",
            (
                Service(SERVICE, running=False),
                Gone(CONFIG),
                Gone(SCRIPT),
                Gone(DROP_IN),
                Gone(ORDER),
                NoService(SILENT),
                Gone(HANDOVER),
            ),
        ),
    )
