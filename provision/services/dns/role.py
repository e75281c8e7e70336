"""The name server: dnsmasq resolves the site and the machines, and forwards all other queries."""

from __future__ import annotations

from provision.core.lab import Machine
from provision.core.package_set import PackageSet
from provision.core.timeouts import SERVICE_STOP_SECONDS
from provision.engine.context import Context
from provision.engine.plan import Unit
from provision.engine.resources import File, NoFile, OwnedDirectory, Service
from provision.engine.role import Allow, Role, Sandbox

CONFIG = "/etc/dnsmasq.d/lab.conf"
SERVICE = "dnsmasq.service"
DROP_IN = f"/etc/systemd/system/{SERVICE}.d/lab.conf"
PORT = 53


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """DNS from the lab's network, which includes the controller."""
    sources = (str(context.lab.network),)
    return tuple(Allow(PORT, sources, "DNS for the lab", protocol) for protocol in ("udp", "tcp"))


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """One configuration file; dnsmasq reads it only at start."""
    return (
        Unit(
            "dns",
            (
                OwnedDirectory("/etc/dnsmasq.d", service=True),
                File(CONFIG, context.render("dns/lab.conf.j2", machine)),
                File(
                    DROP_IN,
                    context.render("system/stop.conf.j2", machine, seconds=SERVICE_STOP_SECONDS),
                    passive=True,
                ),
                Service(SERVICE),
            ),
            service=SERVICE,
            activate="restart",
            validate=("dnsmasq", "--test", f"--conf-file={CONFIG}"),
        ),
    )


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """Dnsmasq is stopped and not configured."""
    return (Unit("dns-gone", (Service(SERVICE, running=False), NoFile(CONFIG), NoFile(DROP_IN))),)


ROLE = Role(
    "dns",
    30,
    units,
    absent,
    packages=lambda *_: PackageSet(("dnsmasq",)),
    ports=ports,
    service=SERVICE,
    sandbox=Sandbox(
        "root binds port 53 and switches to the user dnsmasq; upstream servers are anywhere",
        writes="/run",
        capabilities="CAP_DAC_OVERRIDE CAP_NET_BIND_SERVICE CAP_SETGID CAP_SETUID CAP_CHOWN",
        calls="@setuid @chown capset",
        families="AF_INET AF_NETLINK AF_UNIX",
        peers="all",
    ),
    fault_units=(SERVICE,),
)
