"""The name server: dnsmasq answers for the site and the machines, and passes other questions on."""

from __future__ import annotations

from provision.core.lab import Machine
from provision.core.package_set import PackageSet
from provision.engine.context import Allow, Context
from provision.engine.plan import Unit
from provision.engine.resources import File, Gone, Service

CONFIG = "/etc/dnsmasq.d/lab.conf"
SERVICE = "dnsmasq.service"
PORT = 53


def packages(context: Context, machine: Machine) -> PackageSet:
    """Dnsmasq alone."""
    return PackageSet(("dnsmasq",))


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """Questions from the lab's own network, the controller among it."""
    sources = (str(context.lab.network),)
    return tuple(Allow(PORT, sources, "DNS for the lab", word) for word in ("udp", "tcp"))


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """One configuration file, checked by dnsmasq itself; it reads a file only when it starts."""
    return (
        Unit(
            "dns",
            (File(CONFIG, context.render("dns/lab.conf.j2", machine)), Service(SERVICE)),
            service=SERVICE,
            activate="restart",
            validate=("dnsmasq", "--test", f"--conf-file={CONFIG}"),
        ),
    )


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """No name server where the topology wants none."""
    return (Unit("dns-gone", (Service(SERVICE, running=False), Gone(CONFIG))),)
