"""`lab.doctor`: what this host lacks, and the paths of a request through a running lab."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from provision import providers
from provision.commands import hostcheck, tables
from provision.commands.base import Session, console, lab_name, publish, task
from provision.commands.results import lab as results
from provision.core.exit_status import ExitStatus
from provision.core.hints import for_lab
from provision.topology import labs

if TYPE_CHECKING:
    from provision.operations.offline import Offline


@task(
    result=results.Doctor,
    help={
        "provider": "lxc, vagrant, incus or ssh (default: the lab's, otherwise that of a new lab)",
        "host": "show all providers in one table",
    },
)
def doctor(c: Any, lab: str = "", provider: str = "", host: bool = False) -> None:
    """Show what this host lacks for lab.up.

    In a running lab, every path of a request is traced as well.
    """
    opened, recorded = labs.open_lab(lab_name(lab))
    if host:
        rows, (name, reason) = hostcheck.host(opened)
        publish(hostcheck.values(name, reason, rows))
        tables.show(console(), hostcheck.LAYOUT, [astuple(row) for row in rows])
        print(f"\nprovider of a new lab: {name} ({reason})")
        return
    chosen, reason = providers.choose(provider, recorded)
    print(f"provider {chosen.name}: {reason}")
    problems = chosen.preflight(opened)
    found = hostcheck.values(chosen.name, reason, hostcheck.rows(chosen.name, problems, "ready"))
    publish(found)
    for problem in problems:
        severity = "missing" if problem.fatal else "note"
        print(f"{severity}: {problem.what}\n  fix: {problem.hint}")
    if any(problem.fatal for problem in problems):
        raise SystemExit(ExitStatus.FAILED)
    print(f"ready for lab {opened.name} on {opened.network}")
    if chosen.name == "lxc":
        from provision.operations import offline  # not while other commands are parsed

        found["offline"] = offline_values(offline.topologies(opened.root))
        show_offline(found["offline"], opened.name)
    if recorded is not None and not chosen.network_problem(opened):
        _trace_paths(Session(opened, recorded, chosen), found)


def offline_values(rows: Sequence[Offline]) -> list[results.OfflineValues]:
    """What is available without a network, as JSON values."""
    return [
        results.OfflineValues(topology=row.topology, ready=row.ready, missing=list(row.missing))
        for row in rows
    ]


def show_offline(rows: Sequence[results.OfflineValues], lab: str) -> None:
    """Print one line per topology, and how to get what is missing."""
    for row in rows:
        missing = "; ".join(row["missing"])
        state = "available" if row["ready"] else f"not available: {missing}"
        print(f"without a network: {row['topology']} is {state}")
    if not all(row["ready"] for row in rows):
        print(for_lab("  fix: invoke lab.prefetch --topology all", lab))


def _trace_paths(session: Session, found: results.Doctor) -> None:
    """Trace a request over every path of a running lab; exit with 1 if one is interrupted."""
    if not session.provider.endpoints(session.lab):
        return
    from provision.checks.paths import trace_paths
    from provision.commands import show_checks
    from provision.database.failover import control as failover

    with session.fleet() as fleet:
        traced = trace_paths(failover.adopt(session.context, fleet), fleet)
    found["paths"] = [show_checks.path_values(path) for path in traced]
    show_checks.print_paths(console(), traced, session.lab.name)
    if not all(path.ok for path in traced):
        raise SystemExit(ExitStatus.FAILED)
