"""The address that several balancers share: keepalived gives it to one whose HAProxy answers.

VRRP (RFC 9568) by unicast between the balancers, an advertisement every 0.2 s: a silent holder is
followed in some 0.7 s, one that says goodbye at once. There is no preemption: whoever holds the
address keeps it until it fails, since handing it back would be a second interruption for nothing.
"""

from __future__ import annotations

from provision.engine import Unit
from provision.errors import LabError
from provision.lab import Machine
from provision.providers.base import PackageSet
from provision.resources import File, Gone, Service
from provision.roles.base import Allow, Context

CONFIG = "/etc/keepalived/keepalived.conf"
SCRIPT = "/usr/local/lib/foobar-lab/haproxy-answers"
DROP_IN = "/etc/systemd/system/haproxy.service.d/lab-keepalived.conf"
ORDER = "/etc/systemd/system/keepalived.service.d/lab.conf"
ENDED = "/run/haproxy-ended"
"""Holds 0 while HAProxy runs, and something else once it has ended."""

SERVICE = "keepalived.service"
INTERFACES = {"lxc": "eth0"}
"""The lab's network card by provider; Vagrant's machines have a card of Vagrant's own before it."""

HIGHEST = 150


def packages(context: Context, machine: Machine) -> PackageSet:
    """Keepalived alone."""
    return PackageSet(("keepalived",))


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """VRRP from the other balancers: a protocol of its own beside TCP and UDP, without ports."""
    return (Allow(0, _others(context, machine), "VRRP between the balancers", "vrrp"),)


def _others(context: Context, machine: Machine) -> tuple[str, ...]:
    return tuple(str(m.address) for m in context.lab.having("keepalived") if m != machine)


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The script that asks HAProxy, and the configuration, checked by keepalived itself."""
    lab = context.lab
    if lab.topology.virtual_address is None:
        raise LabError(f"{lab.topology.path}: keepalived without a virtual_address")
    members = lab.having("keepalived")
    config = context.render(
        "keepalived/keepalived.conf.j2",
        machine,
        interface=INTERFACES.get(context.state.provider, "eth1"),
        number=lab.topology.virtual_address.packed[-1],
        priority=HIGHEST - 10 * members.index(machine),
        others=_others(context, machine),
        script=SCRIPT,
        ended=ENDED,
    )
    return (
        Unit(
            "keepalived",
            (
                File(SCRIPT, context.render("keepalived/haproxy-answers.j2", machine), mode="0755"),
                File(
                    DROP_IN,
                    context.render("keepalived/haproxy.service.j2", machine, ended=ENDED),
                    passive=True,
                ),
                File(
                    ORDER, context.render("keepalived/keepalived.service.j2", machine), passive=True
                ),
                File(CONFIG, config),
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
            ),
        ),
    )
