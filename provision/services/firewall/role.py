"""The firewall: nftables on every machine that has the role; open is what the topology says.

Rules are values first (`rules`): every role says which of its ports who may reach. The table is
replaced in one transaction, on trial: the controller has to confirm it over a new connection, or
the machine takes it back by itself (provision/remote/firewall.py).
"""

from __future__ import annotations

from dataclasses import replace

from provision import registry as roles
from provision.core.lab import Machine
from provision.core.package_set import PackageSet
from provision.engine.context import Allow, Context
from provision.engine.plan import Unit
from provision.engine.resources import File, Service
from provision.engine.resources.removal import NoService
from provision.services.firewall.resources import NoRuleset, Ruleset

SERVICE = "lab-firewall.service"
RULES = "/etc/foobar-lab/firewall.nft"
SSH = 22
WINDOW = 10
"""Seconds in which new rules must be confirmed; afterwards the machine puts the old ones back."""


def packages(context: Context, machine: Machine) -> PackageSet:
    """The nft program."""
    return PackageSet(("nftables",))


def controllers(context: Context) -> tuple[str, ...]:
    """Who may reach sshd: the controller's address on the network, or what ``ssh_from`` says."""
    given = context.lab.topology.ssh_from
    return tuple(str(n).removesuffix("/32") for n in given) or (str(context.lab.gateway),)


def rules(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """What is open on a machine: SSH for the controller, and what its roles ask for.

    What a machine asks of itself comes in through the loopback interface and needs no rule.
    """
    found = [Allow(SSH, controllers(context), "SSH from the controller")]
    for rule in roles.ports(context, machine):
        others = tuple(s for s in rule.sources if s != str(machine.address))
        if others or not rule.sources:
            found.append(replace(rule, sources=others))
    return tuple(found)


def _matches(allow: Allow) -> str:
    """A rule's conditions as nft writes them itself."""
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
    """The rules, on trial until they are confirmed; then the service that loads them at boot."""
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
    """Nothing of it: no service, no table, no file."""
    return (Unit("firewall-gone", (NoService(SERVICE), NoRuleset(RULES))),)
