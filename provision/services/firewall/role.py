"""The firewall: nftables with a default of drop, and one rule per port that a role declares.

Rules are values (`rules`) before they are text. The table is replaced in one transaction, on trial:
the controller must confirm it over a new connection, or the machine rolls it back automatically
(``agent/trial.py``).
"""

from __future__ import annotations

from dataclasses import replace

from provision.core.lab import Machine
from provision.core.package_set import PackageSet
from provision.engine.context import Context
from provision.engine.plan import Unit
from provision.engine.resources import File, Service
from provision.engine.resources.removal import NoService
from provision.engine.role import Allow, Role
from provision.services.firewall.resources import NoRuleset, Ruleset

SERVICE = "lab-firewall.service"
RULES = "/etc/foobar-lab/firewall.nft"
SSH = 22
WINDOW = 10
"""Seconds until the machine rolls back rules that were not confirmed."""


def controllers(context: Context) -> tuple[str, ...]:
    """The allowed sources of SSH: the topology's ``ssh_from``, or the controller's address."""
    networks = context.lab.topology.ssh_from
    return tuple(str(n).removesuffix("/32") for n in networks) or (str(context.lab.gateway),)


def rules(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """The open ports of a machine: SSH for the controller, and those of its roles.

    Connections of a machine to itself use the loopback interface and need no rule.
    """
    allowed = [Allow(SSH, controllers(context), "SSH from the controller")]
    for rule in context.ports(machine):
        others = tuple(s for s in rule.sources if s != str(machine.address))
        if others or not rule.sources:
            allowed.append(replace(rule, sources=others))
    return tuple(allowed)


def _matches(allow: Allow) -> str:
    """A rule's match expressions in the form that nft lists them."""
    port = f"{allow.protocol} dport {allow.port}" if allow.port else f"ip protocol {allow.protocol}"
    if not allow.sources:
        return port
    several = len(allow.sources) > 1
    sources = f"{{ {', '.join(allow.sources)} }}" if several else allow.sources[0]
    return f"ip saddr {sources} {port}"


def ruleset(context: Context, machine: Machine) -> str:
    """The table as a file for ``nft -f``."""
    ssh, *others = rules(context, machine)
    return context.render(
        "firewall/lab.nft.j2",
        machine,
        ssh=_matches(ssh),
        opened=[(_matches(allow), allow.why) for allow in others],
    )


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The rules, applied on trial, and the service that loads them at boot."""
    table = Ruleset(RULES, ruleset(context, machine), controllers(context), WINDOW)
    unit = context.render("firewall/lab-firewall.service.j2", machine, rules=RULES)
    return (
        Unit("firewall", (table,), confirm="firewall-confirm"),
        Unit(
            "firewall-service",
            (
                File(f"/etc/systemd/system/{SERVICE}", unit, passive=True),
                Service(SERVICE, starts=True),
            ),
        ),
    )


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """No service, no table, no file."""
    return (Unit("firewall-gone", (NoService(SERVICE), NoRuleset(RULES))),)


ROLE = Role(
    "firewall", 10, units, absent, packages=lambda *_: PackageSet(("nftables",)), service=SERVICE
)
