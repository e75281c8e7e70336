"""HTTPS: certificates where TLS ends, and their renewal.

That is on balancers, on web servers, and on application servers whose web servers are other
machines. No topology names it as a role: a machine has it when the topology says ``https: true``.
It is given two certificates, the one that serves and its successor, and switches by itself
(lab-tls-renew.timer). So it needs no key that signs: the authority's stays with the controller,
and whoever takes the machine over cannot certify anything. One lab.up in two years is enough.
"""

from __future__ import annotations

from provision.core.lab import Lab, Machine
from provision.core.pki import Staged
from provision.engine.context import Context
from provision.engine.plan import Resource, Unit
from provision.engine.resources import Directory, File, Service
from provision.engine.resources.removal import NoDirectory, NoService
from provision.services.tls.resources import Clock

FOLDER = "/etc/foobar-lab/tls"
CA = f"{FOLDER}/ca.pem"
BUNDLE = f"{FOLDER}/site.pem"
"""Certificate and private key, which HAProxy and Nginx both read from one file."""

NEXT = f"{FOLDER}/next.pem"
PROGRAM = "/usr/local/lib/foobar-lab/tls/renew"
SERVICE = "lab-tls-renew.service"
TIMER = "lab-tls-renew.timer"
UNIT_FILES = "/etc/systemd/system"
DAYS = 30
"""A certificate with fewer days left is replaced, by the machine and by lab.up alike."""


def wanted(context: Context, machine: Machine) -> bool:
    """Whether TLS ends on this machine."""
    return context.lab.topology.https and _server(machine) != ""


def _server(machine: Machine) -> str:
    """The outermost role of a machine that answers others; empty without one."""
    return next((role for role in ("haproxy", "nginx", "app") if role in machine.roles), "")


def service_name(lab: Lab) -> str:
    """What every application server is certified as, beside its own name.

    Nginx verifies one name for all servers of an upstream (nginx.org, proxy_ssl_name).
    """
    return f"app.{lab.topology.domain}"


def certificate_name(context: Context, machine: Machine) -> str:
    """What the authority calls the machine's certificate: the site's, or the server's own."""
    server = _server(machine)
    return context.lab.site if server == "haproxy" else f"{server}.{machine.name}"


def staged(context: Context, machine: Machine) -> Staged:
    """The machine's certificate and its successor.

    A balancer shows the site's names, which users verify; a web server shows its own name, which
    the balancer verifies; an application server also the one that web servers verify.
    """
    lab = context.lab
    name = certificate_name(context, machine)
    if "haproxy" not in machine.roles:
        own = [machine.name, *([service_name(lab)] if _server(machine) == "app" else [])]
        return context.authority.staged(name, [machine.address], own)
    balancers = lab.with_role("haproxy")
    addresses = dict.fromkeys([*(m.address for m in balancers), lab.address])
    names = [lab.site, lab.topology.domain, *(m.name for m in balancers)]
    return context.authority.staged(name, addresses, names)


def first(context: Context) -> tuple[Unit, ...]:
    """What must be right before any certificate is looked at: the clock."""
    return (Unit("clock", (Clock(),)),) if context.lab.topology.https else ()


def files(context: Context, machine: Machine) -> tuple[Resource, ...]:
    """What a server's process loads; a part of that server's own unit, so that it is reloaded."""
    if not wanted(context, machine):
        return ()
    pair = staged(context, machine)
    return (
        Directory("/etc/foobar-lab"),
        Directory(FOLDER),
        File(CA, context.authority.pem()),
        File(BUNDLE, pair.certificate + pair.key, mode="0600", secret=True),
    )


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The successor, and the timer that switches to it; where no TLS ends, nothing of it."""
    if not wanted(context, machine):
        gone = (NoService(TIMER), NoService(SERVICE), NoDirectory(FOLDER), _no_program())
        return (Unit("tls-gone", gone),)
    pair = staged(context, machine)
    server = {"app": "foobar"}.get(_server(machine), _server(machine)) + ".service"
    values = {
        "bundle": BUNDLE,
        "next": NEXT,
        "ca": CA,
        "days": DAYS,
        "server": server,
        # systemd hands gunicorn its certificate at a start; requests wait in its socket meanwhile.
        "load": "restart" if _server(machine) == "app" else "reload",
        "program": PROGRAM,
        "folder": FOLDER,
    }

    def text(name: str) -> str:
        return context.render(f"tls/{name}.j2", machine, **values)

    return (
        Unit(
            "tls-renewal",
            (
                File(
                    NEXT,
                    pair.next_certificate + pair.next_key,
                    mode="0600",
                    secret=True,
                    passive=True,
                ),
                File(PROGRAM, text("renew"), mode="0755", passive=True),
                File(f"{UNIT_FILES}/{SERVICE}", text(SERVICE), passive=True),
                File(f"{UNIT_FILES}/{TIMER}", text(TIMER), passive=True),
                Service(TIMER, starts=True),
            ),
        ),
    )


def _no_program() -> NoDirectory:
    return NoDirectory(PROGRAM.rpartition("/")[0])
