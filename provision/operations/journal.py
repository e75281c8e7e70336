"""The journal of a machine: which systemd unit a service of `lab.logs` is."""

from __future__ import annotations

from provision.core.errors import UsageError
from provision.core.suggestions import closest
from provision.engine.context import Context
from provision.engine.host import Host

NO_ENTRIES = "-- No entries --"


def unit_of(context: Context, host: Host, service: str) -> str:
    """The systemd unit of a service, by its name or an alias such as ``gunicorn``.

    Raises:
        UsageError: when the machine has neither such a unit nor journal entries of one.
    """
    aliases = {alias: role.short_service for role in context.roles for alias in role.aliases}
    unit = aliases.get(service.removesuffix(".service"), service)
    if _is_loaded(host, unit) or _has_entries(host, unit):
        return unit
    listed = host.run("systemctl", "list-unit-files", "--no-legend", "--plain").stdout
    names = [line.split()[0] for line in listed.splitlines() if line.strip()]
    installed = [name.removesuffix(".service") for name in names]
    of_lab = [
        name.removesuffix(".service") for name in context.services(context.lab.machine(host.name))
    ]
    meant = closest(unit, [*of_lab, *aliases]) or closest(unit, installed)
    raise UsageError(
        f"{host.name} has no service {service!r}" + (f"; did you mean {meant}?" if meant else ""),
        f"invoke lab.logs {host.name} --service {meant}"
        if meant
        else f"services of the lab on {host.name}: {', '.join(of_lab)}",
    )


def _is_loaded(host: Host, unit: str) -> bool:
    shown = host.run("systemctl", "show", "--property=LoadState", "--value", "--", unit)
    return shown.stdout.strip() not in ("not-found", "")


def _has_entries(host: Host, unit: str) -> bool:
    """Whether the journal knows a unit that is not installed any more."""
    shown = host.run("journalctl", "--no-pager", "--lines=1", "--quiet", f"--unit={unit}")
    return shown.ok and shown.stdout.strip() not in ("", NO_ENTRIES)
