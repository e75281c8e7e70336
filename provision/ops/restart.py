"""Restarting a machine, or a service wherever it runs, one after the other while the site serves.

Every server is drained, restarted, found healthy and put back before the next one's turn comes.
A machine is rebooted through SSH, so this is the same for every provider.
"""

from __future__ import annotations

import contextlib
import time

from provision import checks, roles
from provision.errors import HostError, LabError, UsageError
from provision.host import Host
from provision.lab import Lab, Machine
from provision.ops.fleet import Fleet
from provision.ops.observe import observe
from provision.ops.traffic import Drained, Say
from provision.roles import haproxy, mysql
from provision.roles.base import Context

REBOOT = 300.0
"""Seconds until a machine answers over SSH again; an emulated one needs more than a minute."""

HEALTHY = 60.0
"""Seconds until the checks of what was restarted pass."""

ALIASES = {"app": "foobar", "gunicorn": "foobar", "mysqld": "mysql"}
"""What a service is also called."""


def services(lab: Lab) -> dict[str, tuple[Machine, ...]]:
    """By short name, the services of a lab and the machines that they run on."""
    found: dict[str, tuple[Machine, ...]] = {}
    for machine in lab.machines:
        for unit in roles.services(machine):
            name = unit.removesuffix(".service")
            found[name] = (*found.get(name, ()), machine)
    return found


def order(context: Context, service: str, machines: tuple[Machine, ...]) -> tuple[Machine, ...]:
    """Whose turn is when: as in the topology, but of databases the primary comes last."""
    if f"{service}.service" != mysql.SERVICE:
        return machines
    return tuple(sorted(machines, key=lambda m: m.name == context.state.primary))


def restart(context: Context, fleet: Fleet, what: str, say: Say) -> None:
    """Restart a machine or a service.

    Args:
        context: the lab.
        fleet: its machines.
        what: a machine's name, or a service's.
        say: told what each machine is doing.

    Raises:
        UsageError: when there is neither; with what there is.
        LabError: when one does not come back healthy. It stays out of rotation, and those after
            it were not touched.
    """
    known = services(context.lab)
    if what in {machine.name for machine in context.lab.machines}:
        _machine(context, fleet, context.lab.machine(what), say)
        return
    short = what.removesuffix(".service")
    name = ALIASES.get(short, short)
    if name not in known:
        machines = ", ".join(machine.name for machine in context.lab.machines)
        raise UsageError(
            f"{what!r} is neither a machine nor a service of lab {context.lab.name}",
            f"machines: {machines}; services: {', '.join(sorted(known))}",
        )
    for machine in known[name]:
        fleet.host(machine.name)  # one that does not run is found before the first is touched
    for machine in order(context, name, known[name]):
        _service(context, fleet, machine, name, say)


def _service(context: Context, fleet: Fleet, machine: Machine, name: str, say: Say) -> None:
    host, unit = fleet.host(machine.name), f"{name}.service"
    _warn(context, machine, (unit,), say)
    with Drained(context, fleet, machine, say):
        # A new HAProxy takes the sockets over from the old one: a restart would refuse requests.
        word = "reload" if unit == haproxy.SERVICE else "restart"
        say(machine.name, f"{word} {name}")
        done = host.run("systemctl", word, unit, timeout=180)
        if not done.ok:
            raise LabError(
                f"{machine.name}: systemctl {word} {name} failed",
                f"invoke lab.logs {machine.name} --service {name}",
                output=done.err,
            )
        _wait(context, fleet, machine, say)
    say(machine.name, f"{name} is back")


def _machine(context: Context, fleet: Fleet, machine: Machine, say: Say) -> None:
    host = fleet.host(machine.name)
    _warn(context, machine, roles.services(machine), say)
    if machine.address == context.lab.address:
        say(machine.name, "is what users talk to: nothing is served until it is back")
    with Drained(context, fleet, machine, say):
        before = boot(host)
        say(machine.name, "rebooting")
        with contextlib.suppress(HostError):  # it may be faster than its answer
            host.run("systemctl", "reboot", timeout=20)
        host.close()
        _wait_for_boot(host, before)
        say(machine.name, "waiting for its services")
        _wait(context, fleet, machine, say)
    say(machine.name, "is back")


def _warn(context: Context, machine: Machine, units: tuple[str, ...], say: Say) -> None:
    if mysql.SERVICE in units and machine.name == context.state.primary:
        say(machine.name, "is the primary: writes pause until it is back")


def boot(host: Host) -> str:
    """What is another after every boot.

    The kernel's boot id is that of the host in a container, and the time at which systemd began
    is much the same after every boot of a virtual machine; together they tell.
    """
    done = host.run(
        "sh",
        "-c",
        "cat /proc/sys/kernel/random/boot_id; "
        "systemctl show --property=UserspaceTimestampMonotonic --value",
    )
    if not done.ok:
        raise LabError(f"{host.name}: it does not tell which boot this is", output=done.err)
    return done.out


def _wait_for_boot(host: Host, before: str) -> None:
    end = time.monotonic() + REBOOT
    while True:
        try:
            if boot(host) != before:
                return
            why = "it has not gone down"
        except LabError as error:
            why = error.what
            host.close()
        if time.monotonic() >= end:
            raise LabError(
                f"{host.name} has not rebooted after {REBOOT:g} s: {why}", "invoke lab.status"
            )
        time.sleep(0.3)


def _wait(context: Context, fleet: Fleet, machine: Machine, say: Say) -> None:
    """Wait until a machine's services run, its database has its role, and its site answers.

    Raises:
        LabError: with the checks that still fail.
    """
    kinds = ("service", "database", "replication", "semisync", "web")
    mine = [
        check
        for check in checks.checks(context)
        if check.machine == machine.name and check.name.partition("/")[0] in kinds
    ]
    end = time.monotonic() + HEALTHY
    while True:
        seen = observe(context, fleet, {}, requests_too=False)
        verdicts = [(check, check.judge(seen)) for check in mine]
        bad = [(check, verdict) for check, verdict in verdicts if not verdict.ok]
        if not bad:
            return
        if time.monotonic() >= end:
            lines = [f"{check.name}: {verdict.got}" for check, verdict in bad]
            raise LabError(
                f"{machine.name} is not healthy {HEALTHY:g} s later, and stays out of rotation:\n"
                + "\n".join(lines),
                bad[0][0].next,
            )
        say(machine.name, f"waiting for {', '.join(check.name for check, _ in bad[:3])}")
        time.sleep(0.3)
