"""Terminal output: turns values into tables and text, and decides nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from provision.checks import settings, units
from provision.checks.balancer import server_statistics
from provision.checks.database import server_status
from provision.checks.machines import service_state
from provision.checks.observation import Observation
from provision.checks.replication import comparison
from provision.commands import tables
from provision.commands.results import lab as results
from provision.core import next_steps
from provision.core.hints import for_lab
from provision.core.lab import Machine
from provision.engine.agent.overwritten import FOLDER
from provision.engine.context import Context
from provision.engine.converge import Outcome
from provision.engine.plan import Change, Plan
from provision.services.haproxy.statistics import ServerStatistics
from provision.topology import record

OUTCOMES = tables.layout(
    "lab.up",
    tables.Column("machine"),
    tables.Column("result"),
    tables.Column("changed", 1),
    tables.Column("unchanged", 3),
    tables.Column("seconds", 2, right=True),
    header=False,
)
MACHINES = tables.layout(
    "lab.status",
    tables.Column("MACHINE"),
    tables.Column("STATE"),
    tables.Column("ADDRESS", 1),
    tables.Column("SERVICES", prose=True),
    tables.Column("DATABASE", prose=True),
)
SERVERS = tables.layout(
    "lab.status: servers",
    tables.Column("SERVER"),
    tables.Column("STATUS"),
    tables.Column("CHECK", 3),
    tables.Column("WEIGHT", 1, right=True),
    tables.Column("SESSIONS", 2, right=True),
    tables.Column("TOTAL", 4, right=True),
)


def outcomes(console: Any, outcomes: Iterable[Outcome]) -> None:
    """Print one line per machine: changed, unchanged, seconds."""
    rows = []
    for outcome in outcomes:
        changed = len(outcome.changed)
        verdict = "failed" if outcome.error else ("changed" if changed else "unchanged")
        rows.append(
            [
                outcome.machine,
                verdict,
                f"{changed} changed",
                f"{max(0, outcome.resources - changed)} unchanged",
                f"{outcome.seconds:.1f} s",
            ]
        )
    tables.show(console, OUTCOMES, rows)


def outcome_values(outcome: Outcome) -> results.MachineOutcome:
    """The outcome of one machine as JSON values."""
    return results.MachineOutcome(
        machine=outcome.machine,
        changed_resources=list(outcome.changed),
        unchanged=max(0, outcome.resources - len(outcome.changed)),
        seconds=round(outcome.seconds, 2),
        copies=list(outcome.copies),
        error=outcome.error.what if outcome.error else "",
    )


def copies(outcomes: Iterable[Outcome]) -> list[str]:
    """One line per file that was overwritten or removed: where its copy is."""
    return [
        f"{outcome.machine}: {original_path(copy)} was not as the lab wrote it; its copy is {copy}"
        for outcome in outcomes
        for copy in outcome.copies
    ]


def original_path(copy: str) -> str:
    """The path of a kept copy before it was overwritten or removed."""
    return "/" + copy.removeprefix(f"{FOLDER}/").partition("/")[2]


# --- plans ---------------------------------------------------------------------------------------


def plans(plans: Mapping[str, Plan]) -> tuple[str, int]:
    """The plans of all machines as a diff, and the number of changes."""
    lines: list[str] = []
    for machine, planned in plans.items():
        unknown = [item for unit in planned.units for item in unit.unreadable]
        if not planned.changes:
            lines.append(f"{machine}: no changes" + (" that can be seen" if unknown else ""))
        else:
            lines.append(f"{machine}: {planned.changes} to change")
        lines += [f"    {item.resource.name}: not readable: {item.reason}" for item in unknown]
        for unit in planned.units:
            for change in unit.changes:
                lines += ["    " + line for line in _change(change)]
            if unit.needs_reload:
                outdated = f"{unit.outdated} was changed after it started"
                why = outdated if unit.outdated else "configuration not loaded"
                lines.append(f"    {unit.verb} {unit.unit.service} ({why})")
    count = sum(planned.changes for planned in plans.values())
    lines.append(f"\n{count} to change in all" if count else "\nno changes")
    return "\n".join(lines), count


def plan_values(machine: str, state: str, planned: Plan | None) -> results.MachinePlan:
    """The plan of one machine as JSON values; None when it is not running."""
    units = planned.units if planned else ()
    return results.MachinePlan(
        machine=machine,
        state=state,
        count=planned.changes if planned else 0,
        changes=[
            results.ResourceChange(
                resource=change.resource.name,
                attributes=[
                    results.AttributeValues(
                        attribute=difference.key,
                        before="" if difference.secret else difference.before,
                        after="" if difference.secret else difference.after,
                        secret=difference.secret,
                    )
                    for difference in change.differences
                ],
            )
            for unit in units
            for change in unit.changes
        ],
        services={unit.unit.service: unit.verb for unit in units if unit.needs_reload},
        unreadable={item.resource.name: item.reason for u in units for item in u.unreadable},
    )


def _change(change: Change) -> list[str]:
    lines = [f"{change.resource.name}"]
    for difference in change.differences:
        if difference.secret:
            lines.append(f"  {difference.key}: (secret) changes")
        elif difference.key == "content":
            lines += [f"  {line}" for line in _diff(difference.before, difference.after)]
        else:
            before = difference.before or "(none)"
            lines.append(f"  {difference.key}: {before} → {difference.after}")
    return lines


def _diff(before: str, after: str) -> list[str]:
    rows = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2))
    return rows[2:]


# --- status --------------------------------------------------------------------------------------


def server_values(server: ServerStatistics) -> results.BackendServerValues:
    """One backend server as JSON values."""
    return results.BackendServerValues(
        server=server.name,
        status=server.status,
        check=server.check,
        weight=server.weight,
        sessions=server.sessions,
        sessions_per_second=server.rate,
        total_sessions=server.total,
        errors=server.errors,
        retries=server.retries,
        backup=server.backup,
    )


def status_values(context: Context, observation: Observation) -> results.LabStatusValues:
    """The status of a lab as JSON values."""
    lab = context.lab
    return results.LabStatusValues(
        topology=record.short_name(context.state.topology),
        target=record.short_name(context.state.target),
        provider=context.state.provider,
        network=str(lab.network),
        url=f"{lab.url}/",
        primary=context.state.primary,
        algorithm=context.balance.algorithm,
        mode=context.balance.mode,
        machines=[_machine_values(context, observation, machine) for machine in lab.machines],
        warnings=[
            results.WarningValues(
                machine=result.check.machine,
                what=result.verdict.cause,
                next=for_lab(result.check.hint, lab.name),
            )
            for result in settings.warnings(context, observation)
        ],
    )


def _machine_values(
    context: Context, observation: Observation, machine: Machine
) -> results.MachineStatus:
    values = results.MachineStatus(
        machine=machine.name,
        address=str(machine.address),
        roles=list(machine.roles),
        state=observation.states.get(machine.name, "absent"),
    )
    if error := observation.errors.get(machine.name):
        values["error"] = error
    if machine.name not in observation.results:
        return values
    values["services"] = {
        name.removesuffix(".service"): service_state(observation, machine.name, name)
        for name in context.services(machine)
    }
    values["units"] = dict(units.with_problems(context, observation, machine))
    if "mysql" in machine.roles:
        values["database"] = _database_values(context, observation, machine.name)
    if "haproxy" in machine.roles:
        servers = server_statistics(context, observation, machine.name)
        values["servers"] = [server_values(server) for server in servers]
    return values


def _database_values(
    context: Context, observation: Observation, name: str
) -> results.DatabaseSummary:
    status = server_status(observation, name)
    primary = name == context.state.primary
    values = results.DatabaseSummary(
        up=status.up, role="primary" if primary else "replica", writable=status.writable
    )
    if primary:
        values["semi_sync"] = status.semisync_active
        return values
    values["source"] = status.source
    values["receiving"] = status.replica is not None and status.replica.io_running == "Yes"
    values["applying"] = status.replica is not None and status.replica.sql_running == "Yes"
    values["lag_seconds"] = status.lag
    compared = comparison(context, observation, name)
    if compared is not None and not compared.error:
        values["missing"] = compared.missing.count
        values["errant"] = compared.errant.count
    return values


def _services_text(entry: results.MachineStatus) -> str:
    """Services, one that is masked or disabled by that state; then other units with problems."""
    services = entry.get("services", {})
    problems = entry.get("units", {})
    shown = {}
    for name, state in services.items():
        problem = problems.get(f"{name}.service", "")
        shown[name] = problem if problem in ("masked", "disabled") else state
    shown |= {
        name: problem
        for name, problem in problems.items()
        if name.removesuffix(".service") not in services
    }
    return " ".join(
        name if state == "active" else f"[red]{name}:{state}[/]" for name, state in shown.items()
    )


def status(
    console: Any, context: Context, observation: Observation, values: results.LabStatusValues
) -> None:
    """Machines, services, the balancer's view and replication."""
    kind = f"{record.progress(values['topology'], values['target'])}, {values['provider']}"
    console.print(f"lab {context.lab.name} ({kind}) on {values['network']}")
    rows = []
    for entry in values["machines"]:
        services = _services_text(entry)
        color = "green" if entry["state"] == "running" else "red"
        database_text = ""
        if data := entry.get("database"):
            database_text = _database_text(data)
        rows.append(
            [
                entry["machine"],
                f"[{color}]{entry['state']}[/]",
                entry["address"],
                services or entry.get("error", ""),
                database_text,
            ]
        )
    tables.show(console, MACHINES, rows)
    for entry in values["machines"]:
        if not entry.get("servers"):
            continue
        console.print(f"\n{entry['machine']} spreads by {values['algorithm']}, {values['mode']}:")
        server_rows = [
            [
                row["server"],
                row["status"],
                row["check"],
                *(str(row[key]) for key in ("weight", "sessions", "total_sessions")),
            ]
            for row in entry["servers"]
        ]
        tables.show(console, SERVERS, server_rows)
    for warning in values["warnings"]:
        text = f"warning: {warning['machine']}: {warning['what']}"
        for line in ("", text, *next_steps.labelled(warning["next"]).splitlines()):
            console.print(line, markup=False)
    if observation.results:
        # Nothing was requested from it: lab.check does that.
        console.print(f"\nsite: {context.lab.site} at {values['url']}")


def _database_text(data: results.DatabaseSummary) -> str:
    if not data["up"]:
        return f"[red]{data['role']}, down[/]"
    if data["role"] == "primary":
        how = "writable" if data["writable"] else "[red]read only[/]"
        return f"primary, {how}, {'semi-sync' if data['semi_sync'] else '[red]async[/]'}"
    lag = "?" if data["lag_seconds"] is None else data["lag_seconds"]
    stopped = [thread for thread in ("receiving", "applying") if not data[thread]]
    state = f"[red]not {' and not '.join(stopped)}[/]" if stopped else f"{lag} s behind"
    counts = {"missing": data.get("missing"), "errant": data.get("errant")}
    for what, count in counts.items():
        if count is not None:
            state += f", [red]{count} {what}[/]" if count else f", {count} {what}"
    return f"replica, {state}" + (", [red]writable[/]" if data["writable"] else "")
