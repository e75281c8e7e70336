"""HTTPS on the machines: the clock that certificates depend on, and certificate renewal.

Every machine is given two certificates, the current one and its successor, and a timer switches to
the successor automatically. So no machine needs a key that signs: the authority's key stays on the
controller, and an attacker on a machine cannot issue certificates. One lab.up in two years is
enough.
"""

from __future__ import annotations

from dataclasses import dataclass

from provision.core.lab import Machine
from provision.engine.context import Context
from provision.engine.plan import Unit
from provision.engine.resources import File, Service
from provision.engine.resources.removal import NoDirectory, NoService
from provision.engine.role import Role
from provision.services.tls import interface as tls
from provision.services.tls.clock import Clock

NEXT = f"{tls.FOLDER}/next.pem"
PROGRAM = "/usr/local/lib/foobar-lab/tls/renew"
SERVICE = "lab-tls-renew.service"
TIMER = "lab-tls-renew.timer"
UNIT_FILES = "/etc/systemd/system"


def clock_units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The machine's clock, which is checked before any certificate."""
    return (Unit("clock", (Clock(),)),)


@dataclass(frozen=True)
class Successor(File):
    """The next certificate of ``server``, a systemd unit, to which a difference is attributed."""

    server: str = ""

    def service_of(self, key: str) -> str:
        """See the class."""
        return self.server.removesuffix(".service")


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The successor and its timer."""
    pair = tls.staged_certificates(context, machine)
    role = tls.server_role(machine)
    server = {"app": "foobar"}.get(role, role) + ".service"
    values = {
        "bundle": tls.BUNDLE,
        "next": NEXT,
        "ca": tls.CA,
        "days": tls.RENEWAL_DAYS,
        "server": server,
        # systemd passes gunicorn its certificate at start; requests wait in its socket meanwhile.
        "load": "restart" if role == "app" else "reload",
        "program": PROGRAM,
        "folder": tls.FOLDER,
    }

    def text(name: str) -> str:
        return context.render(f"tls/{name}.j2", machine, **values)

    successor = pair.next_certificate + pair.next_key
    return (
        Unit(
            "tls-renewal",
            (
                Successor(NEXT, successor, mode="0600", secret=True, passive=True, server=server),
                File(PROGRAM, text("renew"), mode="0755", passive=True),
                File(f"{UNIT_FILES}/{SERVICE}", text(SERVICE), passive=True),
                File(f"{UNIT_FILES}/{TIMER}", text(TIMER), passive=True),
                Service(TIMER, starts=True),
            ),
        ),
    )


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """No certificates and no timer where no server uses TLS."""
    program = NoDirectory(PROGRAM.rpartition("/")[0])
    removed = (NoService(TIMER), NoService(SERVICE), NoDirectory(tls.FOLDER), program)
    return (Unit("tls-gone", removed),)


ROLES = (
    Role("clock", 0, clock_units, applies=lambda _role, context, _m: context.lab.topology.https),
    Role(
        "tls",
        110,
        units,
        absent,
        applies=lambda _role, context, machine: tls.terminates_tls(context, machine),
    ),
)
