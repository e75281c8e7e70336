"""Restart a machine, or a service on every machine that has it, while the site keeps serving.

One server at a time is drained, restarted, checked and put back into rotation. A machine reboots
through SSH, so this works with every provider.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import replace

from provision import checks
from provision.checks.graph import evaluate
from provision.checks.observe import observe
from provision.core import state as records
from provision.core.errors import HostError, LabError, UsageError
from provision.core.lab import Machine
from provision.core.report import Report
from provision.core.suggestions import suggestion
from provision.core.waiting import Timeout, wait_until
from provision.database import promote as db_promote
from provision.database import role as mysql
from provision.database.failover import feature as failover
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.services.haproxy import interface as haproxy
from provision.services.haproxy.drained import drained

REBOOT_SECONDS = 300.0
"""Until a machine accepts SSH connections again; an emulated one needs more than a minute."""

RECOVERY_SECONDS = 60.0
"""Until the checks of a restarted service pass."""

KINDS = ("service", "database", "replication", "semisync", "web", "tls")
"""Checks that must pass before a restarted server goes back into rotation."""


def services(context: Context) -> dict[str, tuple[Machine, ...]]:
    """The machines that run each service, by the service's short name."""
    machines: dict[str, tuple[Machine, ...]] = {}
    for machine in context.lab.machines:
        for role in context.roles_of(machine):
            if role.service:
                name = role.short_service
                machines[name] = (*machines.get(name, ()), machine)
    return machines


def order(context: Context, service: str, machines: tuple[Machine, ...]) -> tuple[Machine, ...]:
    """In the order of the topology, except that the primary database restarts last."""
    if f"{service}.service" != mysql.SERVICE:
        return machines
    return tuple(sorted(machines, key=lambda m: m.name == context.state.primary))


def restart(context: Context, fleet: Fleet, name: str, report: Report) -> None:
    """Restart a machine or a service.

    Args:
        name: of a machine, or of a service with or without ``.service``, or an alias of one.

    Raises:
        UsageError: when nothing has that name; lists the names that exist.
        LabError: when a server is unhealthy afterwards. It stays out of rotation, and those after
            it were not restarted.
    """
    running = services(context)
    if name in {machine.name for machine in context.lab.machines}:
        _reboot(context, fleet, context.lab.machine(name), report)
        return
    aliases = {alias: role.short_service for role in context.roles for alias in role.aliases}
    short = name.removesuffix(".service")
    service = aliases.get(short, short)
    if service not in running:
        names = [machine.name for machine in context.lab.machines]
        machines = ", ".join(names)
        similar = suggestion(short, [*names, *running])
        raise UsageError(
            f"{name!r} is neither a machine nor a service of lab {context.lab.name}{similar}",
            f"machines: {machines}; services: {', '.join(sorted(running))}",
        )
    for machine in running[service]:
        fleet.host(machine.name)  # a stopped machine is an error before the first restart
    for machine in order(context, service, running[service]):
        _restart_service(context, fleet, machine, service, report)


def _restart_service(
    context: Context, fleet: Fleet, machine: Machine, name: str, report: Report
) -> None:
    host, unit = fleet.host(machine.name), f"{name}.service"
    # At a reload a new HAProxy inherits the listening sockets; a restart would refuse requests.
    verb = "reload" if unit == haproxy.SERVICE else "restart"
    with (
        _primary_moved(context, fleet, machine, (unit,), report),
        drained(context, fleet, machine, report),
    ):
        report(machine.name, f"{verb} {name}")
        result = host.run("systemctl", verb, unit, timeout=180)
        if not result.ok:
            raise LabError(
                f"{machine.name}: systemctl {verb} {name} failed",
                f"invoke lab.logs {machine.name} --service {name}",
                output=result.stderr,
            )
        _wait_until_healthy(context, fleet, KINDS, report, machine.name)
    report(machine.name, f"{name} is healthy")


def _reboot(context: Context, fleet: Fleet, machine: Machine, report: Report) -> None:
    host, name = fleet.host(machine.name), machine.name
    if machine.address == context.lab.address:
        report(name, "is the front: the site is unavailable until it is back")
    with (
        _primary_moved(context, fleet, machine, context.services(machine), report),
        drained(context, fleet, machine, report),
    ):
        before = boot_id(host)
        report(name, "rebooting")
        with contextlib.suppress(HostError):  # the connection may be lost before the result
            host.run("systemctl", "reboot", timeout=20)
        host.close()
        wait_until(lambda: _has_rebooted(host, before), REBOOT_SECONDS, f"the reboot of {name}")
        report(name, "waiting for its services")
        _wait_until_healthy(context, fleet, KINDS, report, name)
    report(name, "is healthy")


@contextlib.contextmanager
def _primary_moved(
    context: Context, fleet: Fleet, machine: Machine, units: Collection[str], report: Report
) -> Iterator[None]:
    """With automatic failover, make another database the primary during the body.

    Otherwise the guards would promote one. Without automatic failover a restart only pauses writes.

    Raises:
        LabError: when a promotion fails.
    """
    if mysql.SERVICE not in units or machine.name != context.state.primary:
        yield
        return
    if not failover.enabled(context):
        report(machine.name, "is the primary: writes pause until it is back")
        yield
        return
    replica = next(m.name for m in context.lab.with_role("mysql") if m != machine)
    report(machine.name, f"is the primary: promoting {replica} meanwhile")
    db_promote.promote(context, fleet, replica)
    yield
    after = _recorded(context)
    _wait_until_healthy(after, fleet, ("autopromote",), report)
    report(machine.name, "promoting it again")
    db_promote.promote(after, fleet, machine.name)


def _recorded(context: Context) -> Context:
    return replace(context, state=records.load(context.lab.directory) or context.state)


def boot_id(host: Host) -> str:
    """A text that differs between two boots of a machine.

    The kernel's boot id alone is the host's in a container, and the start time of systemd alone
    hardly differs between two boots of a virtual machine.

    Raises:
        LabError: when it cannot be read.
    """
    result = host.run(
        "sh",
        "-c",
        "cat /proc/sys/kernel/random/boot_id; "
        "systemctl show --property=UserspaceTimestampMonotonic --value",
    )
    if not result.ok:
        raise LabError(f"{host.name}: cannot read the boot id", output=result.stderr)
    return result.stdout


def _has_rebooted(host: Host, before: str) -> bool:
    try:
        return boot_id(host) != before
    except LabError:
        host.close()
        return False


def awaited(context: Context, kinds: Collection[str], machine: str = "") -> list[checks.Check]:
    """The checks of some kinds that a restart can affect, of one machine or of all.

    Timers, sockets and the last runs of oneshot units are not restarted.
    """
    restarted = {
        f"service/{m.name}/{unit.removesuffix('.service')}"
        for m in context.lab.machines
        for unit in context.services(m)
    }
    return [
        check
        for check in checks.checks(context)
        if machine in ("", check.machine)
        and (kind := check.name.partition("/")[0]) in kinds
        and (kind != "service" or check.name in restarted)
    ]


def _wait_until_healthy(
    context: Context, fleet: Fleet, kinds: tuple[str, ...], report: Report, machine: str = ""
) -> None:
    """Wait until the checks of some kinds pass, of one machine or of all.

    Raises:
        LabError: with the checks that still fail.
    """
    context = _recorded(context)
    selected = awaited(context, kinds, machine)
    failed: list[checks.CheckResult] = []

    def healthy() -> bool:
        observation = observe(context, fleet, {}, with_requests=False)
        results = evaluate(selected, observation)
        failed[:] = [result for result in results if not result.settled]
        if failed:
            names = ", ".join(result.check.name for result in failed[:3])
            report(machine or failed[0].check.machine, f"waiting for {names}")
        return not failed

    try:
        wait_until(healthy, RECOVERY_SECONDS, "checks to pass", interval=0.3)
    except Timeout:
        where = machine or failed[0].check.machine
        raise LabError(
            f"{where} is unhealthy after {RECOVERY_SECONDS:g} s, and stays out of rotation:\n"
            + "\n".join(f"{r.check.name}: {r.verdict.got}" for r in failed),
            failed[0].check.hint,
        ) from None
