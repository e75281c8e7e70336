"""Bounds of what grows on a machine (``provision/core/growth.py``), enforced by a timer."""

from __future__ import annotations

import json
from dataclasses import asdict

from provision.core import growth
from provision.core.lab import Machine
from provision.engine.context import Context
from provision.engine.payload import programs
from provision.engine.plan import Unit
from provision.engine.resources import Directory, File, Service, Tree
from provision.engine.role import Role

CODE = "/usr/local/lib/foobar-lab/growth"
ENTRIES = "/etc/foobar-lab/growth.json"
UNITS = "/etc/systemd/system"
SERVICE = growth.HOURLY.replace(".timer", ".service")


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The entries of the machine, and the program that enforces them."""
    entries = [asdict(entry) for entry in growth.on_machine(machine.roles)]
    service = context.render(f"growth/{SERVICE}.j2", machine, code=CODE, entries=ENTRIES)
    timer = context.render(f"growth/{growth.HOURLY}.j2", machine)
    return (
        Unit(
            "growth",
            (
                Directory("/etc/foobar-lab"),
                Directory(CODE.rpartition("/")[0]),
                Tree(CODE, programs("services.growth.agent.purge")),
                File(ENTRIES, json.dumps(entries, indent=1) + "\n", passive=True),
                File(f"{UNITS}/{SERVICE}", service, passive=True),
                File(f"{UNITS}/{growth.HOURLY}", timer),
                Service(growth.HOURLY),
            ),
            service=growth.HOURLY,
            activate="restart",
        ),
    )


ROLES = (Role("growth", 120, units, applies=lambda *_: True),)
