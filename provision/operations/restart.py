"""Restarting a machine, or a service wherever it runs, one after the other while the site serves.

Every server is drained, restarted, found healthy and put back before the next one's turn comes.
A machine is rebooted through SSH, so this is the same for every provider.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

from provision import checks
from provision import registry as roles
from provision.checks.observe import observe
from provision.core import state as records
from provision.core.errors import HostError, LabError, UsageError
from provision.core.lab import Lab, Machine
from provision.database import promote as db_promote
from provision.database import role as mysql
from provision.database.failover import role as autopromote
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.services.haproxy import role as haproxy
from provision.services.haproxy.traffic import Drained, Say

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
    with _handed_over(context, fleet, machine, (unit,), say), Drained(context, fleet, machine, say):
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
    units = roles.services(machine)
    if machine.address == context.lab.address:
        say(machine.name, "is what users talk to: nothing is served until it is back")
    with _handed_over(context, fleet, machine, units, say), Drained(context, fleet, machine, say):
        before = boot(host)
        say(machine.name, "rebooting")
        with contextlib.suppress(HostError):  # it may be faster than its answer
            host.run("systemctl", "reboot", timeout=20)
        host.close()
        _wait_for_boot(host, before)
        say(machine.name, "waiting for its services")
        _wait(context, fleet, machine, say)
    say(machine.name, "is back")


@contextlib.contextmanager
def _handed_over(
    context: Context, fleet: Fleet, machine: Machine, units: tuple[str, ...], say: Say
) -> Iterator[None]:
    """Let another database take the writes meanwhile, where the lab would promote one by itself.

    Elsewhere a restart of the primary is a pause, and a person decides whether it is one.

    Raises:
        LabError: when the writes cannot be moved there or back.
    """
    if mysql.SERVICE not in units or machine.name != context.state.primary:
        yield
        return
    if not autopromote.wanted(context):
        say(machine.name, "is the primary: writes pause until it is back")
        yield
        return
    other = next(m.name for m in context.lab.with_role("mysql") if m != machine)
    say(machine.name, f"is the primary: {other} takes the writes meanwhile")
    db_promote.promote(context, fleet, other)
    yield
    now = replace(context, state=records.load(context.lab.directory) or context.state)
    _settle(now, fleet, ("autopromote",), say)
    say(machine.name, "takes the writes again")
    db_promote.promote(now, fleet, machine.name)


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
    now = replace(context, state=records.load(context.lab.directory) or context.state)
    kinds = ("service", "database", "replication", "semisync", "web", "tls")
    _settle(now, fleet, kinds, say, machine.name)


def _settle(
    context: Context, fleet: Fleet, kinds: tuple[str, ...], say: Say, machine: str = ""
) -> None:
    """Wait until the checks of some kinds pass, of one machine or of all.

    Raises:
        LabError: with the checks that still fail.
    """
    mine = [
        check
        for check in checks.checks(context)
        if machine in ("", check.machine) and check.name.partition("/")[0] in kinds
    ]
    end = time.monotonic() + HEALTHY
    while True:
        seen = observe(context, fleet, {}, requests_too=False)
        verdicts = [(check, check.judge(seen)) for check in mine]
        bad = [(check, verdict) for check, verdict in verdicts if not verdict.ok]
        if not bad:
            return
        where = machine or bad[0][0].machine
        if time.monotonic() >= end:
            lines = [f"{check.name}: {verdict.got}" for check, verdict in bad]
            raise LabError(
                f"{where} is not healthy {HEALTHY:g} s later, and stays out of rotation:\n"
                + "\n".join(lines),
                bad[0][0].next,
            )
        say(where, f"waiting for {', '.join(check.name for check, _ in bad[:3])}")
        time.sleep(0.3)
