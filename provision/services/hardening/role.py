"""Hardening: SSH for the lab's own user alone, and least privilege for Debian's services.

The lab's own units are confined in every stage. Debian's run as their packages want them (nearly
everything is allowed, ``systemd-analyze security`` says 9.6 of 10) until this role is there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from provision import registry as roles
from provision.core.lab import Machine
from provision.core.package_set import PackageSet
from provision.engine.context import Context
from provision.engine.plan import Resource, Unit
from provision.engine.resources import File
from provision.engine.resources.removal import NoFile
from provision.providers.images import USER
from provision.services.tls.resources import SshdFile

SERVICE = "ssh.service"
SSHD = "/etc/ssh/sshd_config.d/05-lab-hardening.conf"
STAMPS = "/var/lib/foobar-lab/loaded"


@dataclass(frozen=True)
class Sandbox:
    """What one of Debian's services needs beyond what everybody may; see systemd.exec(5).

    Args:
        why: what it needs it for, for people.
        writes: where it may write.
        capabilities: that a program needs which is started by root and becomes another user.
        calls: system calls that it needs for that.
        families: of addresses.
        peers: whom it talks to: ``lab``, its own network; ``balancers``, the same where there are
            any, and all visitors elsewhere; ``all``.
        jit: whether it makes machine code (regular expressions).
        private_users: whether root outside is nobody inside.
        umask: of what it writes.
    """

    why: str
    writes: str
    capabilities: str = ""
    calls: str = ""
    families: str = "AF_INET AF_UNIX"
    peers: str = "lab"
    jit: bool = False
    private_users: str = "no"
    umask: str = "0027"


SANDBOXES = {
    "dnsmasq.service": Sandbox(
        "root binds port 53 and hands over to the user dnsmasq; upstream servers are anywhere",
        writes="/run",
        capabilities="CAP_DAC_OVERRIDE CAP_NET_BIND_SERVICE CAP_SETGID CAP_SETUID CAP_CHOWN",
        calls="@setuid @chown capset",
        families="AF_INET AF_NETLINK AF_UNIX",
        peers="all",
    ),
    "haproxy.service": Sandbox(
        "root binds ports and reads keys, workers are the user haproxy; visitors are anywhere",
        writes="/run /var/lib/haproxy",
        capabilities="CAP_DAC_OVERRIDE CAP_KILL CAP_NET_BIND_SERVICE CAP_SETGID CAP_SETUID",
        calls="@setuid @chown",
        peers="all",
        jit=True,
        umask="0022",
    ),
    "mysql.service": Sandbox(
        "it is the user mysql from the start",
        writes="-/run/mysqld /var/lib/mysql -/var/log/mysql",
        # NUMA, which it asks for at its start; a no would be an error in its log each time.
        calls="mbind sched_setaffinity set_mempolicy",
        private_users="yes",
    ),
    "nginx.service": Sandbox(
        "root binds ports and reads keys, workers are the user www-data",
        writes="/run /var/lib/nginx /var/log/nginx",
        capabilities="CAP_CHOWN CAP_DAC_OVERRIDE CAP_KILL CAP_NET_BIND_SERVICE CAP_SETGID"
        " CAP_SETUID",
        calls="@setuid @chown",
        peers="balancers",
        jit=True,
        umask="0022",
    ),
}
"""By service. What runs already is restarted for it, machine after machine."""


def packages(context: Context, machine: Machine) -> PackageSet:
    """Nothing: sshd is there, or nobody could configure the machine."""
    return PackageSet()


def user(context: Context, machine: Machine) -> str:
    """Who logs in: as the topology says of an existing machine, else as the image was made."""
    given = dict(machine.ssh).get("user", "")
    return given or ("vagrant" if context.state.provider == "vagrant" else USER)


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """Settings of sshd, refused when they would lock this login out, and a sandbox a service."""
    text = context.render("hardening/sshd.conf.j2", machine, user=user(context, machine))
    sshd = Unit(
        "sshd",
        (SshdFile(SSHD, text),),
        service=SERVICE,
        activate="reload",
        validate=("sshd", "-t"),
    )
    return (sshd, *(_sandbox(context, machine, service) for service in _confined(machine)))


def _confined(machine: Machine) -> list[str]:
    return [name for name in roles.services(machine) if name in SANDBOXES]


def _drop_in(service: str) -> str:
    return f"/etc/systemd/system/{service}.d/lab-sandbox.conf"


def _sandbox(context: Context, machine: Machine, service: str) -> Unit:
    """The drop-in. A service that does not run yet will start with it."""
    text = context.render(
        "hardening/sandbox.conf.j2", machine, service=service, **asdict(SANDBOXES[service])
    )
    return Unit(
        _name(service),
        (File(_drop_in(service), text),),
        service=service,
        activate="try-restart",
        needs=_before(context, machine, service),
    )


def _before(context: Context, machine: Machine, service: str) -> tuple[str, ...]:
    """While the lab serves, one machine's service restarts after another's; the primary is last."""
    if not context.rolling:
        return ()
    alike = [m for m in context.lab.with_role("hardening") if service in _confined(m)]
    alike.sort(key=lambda m: m.name == context.state.primary)
    place = alike.index(machine)
    return (f"{alike[place - 1].name}/{_name(service)}",) if place else ()


def _name(service: str) -> str:
    return f"sandbox-{service.removesuffix('.service')}"


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The settings that the image came with. What runs stays confined until it next starts."""
    gone: list[Resource] = [
        NoFile(SSHD, ("systemctl", "reload", SERVICE)),
        NoFile(f"{STAMPS}/sshd"),
    ]
    for service in SANDBOXES:
        gone.append(NoFile(_drop_in(service), ("systemctl", "daemon-reload")))
        gone.append(NoFile(f"{STAMPS}/{_name(service)}"))
    return (Unit("hardening-gone", tuple(gone)),)
