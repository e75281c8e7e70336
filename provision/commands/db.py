"""`db.*`: status, promotion, failover, backup and restore of the databases."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any

from provision.commands import show_database
from provision.commands.base import (
    Session,
    console,
    number,
    open_session,
    publish,
    remainder,
    task,
)
from provision.commands.progress import Progress
from provision.commands.results import database as results
from provision.commands.show_database import automatic_values, outage_values, server_values
from provision.core import next_steps
from provision.core.errors import LabError, UsageError, not_among
from provision.core.hints import for_lab
from provision.core.ssh_config import ssh_command
from provision.core.suggestions import similar_path
from provision.database import backup as db_backup
from provision.database import promote as db_promote
from provision.database import recovery, servers
from provision.database import rejoin as db_rejoin
from provision.database import restore as db_restore
from provision.database.failover import control as failover
from provision.database.forced_promotion import promote_after_death
from provision.database.interface import OWN_SCHEMA
from provision.database.servers import DatabaseServer
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.operations.outage import measure_outage
from provision.services.app.interface import uses_database


@contextlib.contextmanager
def _databases(opened: Session, *, lock: bool = False) -> Iterator[tuple[Context, Fleet]]:
    """Connect to the machines; the context includes an automatic failover since the last command.

    Args:
        lock: whether to keep other commands off the lab meanwhile.
    """
    guard = opened.lock() if lock else contextlib.nullcontext()
    with guard, Progress() as report, opened.fleet(report) as fleet:
        yield failover.adopt(opened.context, fleet), fleet


# --- status --------------------------------------------------------------------------------------


def _details(server: DatabaseServer) -> list[str]:
    """Lines below the table: GTID sets, errors and backups."""
    status = server.status
    lines = [f"executed  {status.executed or 'nothing'}"] if status.up else []
    if status.received:
        lines.append(f"received  {status.received}")
    if server.errant:
        lines.append(f"[red]errant    {server.errant}[/]")
    if error := status.error or status.replication_error:
        lines.append(f"[red]error     {error}[/]")
    for problem in server.problems:
        lines.append(f"[red]problem   {problem.text}[/]")
        lines += [f"next      {line}" for line in next_steps.lines_of(problem.fix)]
    if server.comparison and server.comparison.tables and not server.comparison.differences:
        lines.append(f"rows      the same as the primary in {server.comparison.tables} tables")
    for file in server.schedule.backups:
        lines.append(f"backup    {file.path}, {file.made}, {file.size / 1e6:.1f} MB")
    if server.schedule.next:
        lines.append(f"next      backup {server.schedule.next}")
    return lines


@task(result=results.Databases)
def status(c: Any, lab: str = "") -> None:
    """Show role, replication and backups of databases."""
    with _databases(open_session(lab)) as (context, fleet):
        databases = servers.status(context, fleet)
        automatic = failover.status(context, fleet)
    values = [server_values(server) for server in databases]
    if publish(results.Databases(primary=context.state.primary, databases=values)):
        return
    out = console()
    show_database.show(out, databases)
    for server in databases:
        out.print(f"\n{server.machine}")
        for line in _details(server):
            out.print(f"  {line}")
    if automatic.on:
        out.print(f"\n{automatic.summary}")


SWITCH = ("on", "off", "status")


# --- promotion -----------------------------------------------------------------------------------


@task(result=results.Autopromote, positional=["what"], help={"what": "on, off or status"})
def autopromote(c: Any, what: str = "status", lab: str = "") -> None:
    """Turn automatic failover on or off, or show it."""
    if what not in SWITCH:
        raise not_among(f"db.autopromote cannot be turned {what!r}", what, SWITCH)
    opened = open_session(lab)
    if what != "status":
        with _databases(opened, lock=True) as (context, fleet):
            switched = failover.switch(context, fleet, what == "on")
            publish(automatic_values(failover.status(switched, fleet)))
        print(f"automatic failover is {what}")
        return
    with _databases(opened) as (context, fleet):
        automatic = failover.status(context, fleet)
    if publish(automatic_values(automatic)):
        return
    print(automatic.summary)
    for name, active in (automatic.active or {}).items():
        print(f"{name}: {active}")


@task(
    result=results.Promoted,
    positional=["machine"],
    help={
        "old_primary_is_dead": "promote without the old primary; refused while it responds",
        "deadline": "seconds for the new primary to apply what it received",
    },
)
def promote(
    c: Any, machine: str, old_primary_is_dead: bool = False, deadline: str = "30", lab: str = ""
) -> None:
    """Make another database the primary.

    No write is lost. If the old primary is dead, pass --old-primary-is-dead.
    """
    opened = open_session(lab)
    seconds = number(deadline, "--deadline", 1, 86400)
    with _databases(opened, lock=True) as (context, fleet):
        if old_primary_is_dead:
            done = promote_after_death(context, fleet, opened.provider, machine, seconds=seconds)
        else:
            done = db_promote.promote(context, fleet, machine, seconds=seconds)
        lasted = measure_outage(context, fleet, done)
    publish(
        results.Promoted(
            old=done.old,
            new=done.new,
            epoch=done.epoch,
            outage=outage_values(lasted),
            repointed=list(done.repointed),
            not_repointed=dict(done.not_repointed),
        )
    )
    if done.old == done.new:
        print(f"{done.new} is primary (epoch {done.epoch})")
    else:
        print(f"{done.new} is primary instead of {done.old} (epoch {done.epoch})")
    if lasted is None and done.old != done.new:
        print("how long writes failed is not known")
    elif lasted is not None:
        since = f"{lasted.since:%Y-%m-%d %H:%M:%S} UTC"
        print(f"{lasted.seconds:.2f} s without writes, since {since}: {lasted.source}")
    for name in done.repointed:
        print(f"{name} replicates from it")
    for name, reason in done.not_repointed.items():
        print(f"{name} does not replicate from it yet: {reason}")


@task(
    result=results.Rejoined,
    positional=["machine"],
    help={
        "rebuild": "clone the primary even when attaching would suffice",
        "discard": "continue although not all errant transactions can be saved",
    },
)
def rejoin(
    c: Any, machine: str, rebuild: bool = False, discard: bool = False, lab: str = ""
) -> None:
    """Make a server a replica again.

    Its errant transactions are saved in a file first.
    """
    with _databases(open_session(lab), lock=True) as (context, fleet):
        done = db_rejoin.rejoin(context, fleet, machine, rebuild=rebuild, discard=discard)
    publish(
        results.Rejoined(
            machine=done.machine,
            primary=context.state.primary,
            how=done.how,
            errant=done.errant.count,
            errant_gtids=done.errant.text,
            saved=done.saved,
            file=str(done.file or ""),
            differences=[done.differences] if done.differences else [],
        )
    )
    if done.errant:
        print(f"{done.machine} had {db_rejoin.count_errant(done.errant.count)} ({done.errant})")
    if done.file:
        print(f"{db_rejoin.count_errant(done.saved)} kept in {done.file} (zless shows them)")
    if lost := done.errant.count - done.saved:
        print(
            f"{db_rejoin.count_errant(lost)} discarded: no binary log of {done.machine} held them"
        )
    print(f"{done.machine} was {done.how} and replicates from {context.state.primary}")
    if done.differences:
        raise LabError(
            f"{done.machine}: the data differs from the primary: {done.differences}",
            f"invoke db.rejoin {done.machine} --rebuild clones the primary",
        )


# --- backups -------------------------------------------------------------------------------------


def _rows(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{table} {count}" for table, count in sorted(rows.items()))


@task(
    result=results.BackupMade,
    help={"folder": "where to store it (default: .lab/<lab>/backups)"},
)
def backup(c: Any, folder: str = "", lab: str = "") -> None:
    """Make a consistent backup and fetch it.

    It is made on a replica if there is one.
    """
    with _databases(open_session(lab)) as (context, fleet):
        done = db_backup.backup(context, fleet, Path(folder) if folder else None)
    values = results.BackupMade(
        machine=done.machine,
        path=str(done.path),
        size_bytes=done.size,
        rows=dict(done.rows),
        gtids=done.gtids,
    )
    if publish(values):
        return
    print(f"{done.path}")
    size = f"{done.size / 1e6:.2f} MB"
    print(f"made on {done.machine}: {size}; rows: {_rows(done.rows)}; at {done.gtids}")
    if uses_database(context):
        print(f"the schema {OWN_SCHEMA} of your own application is not in it; lab.snapshot has it")


@task(
    result=results.DataRestored,
    positional=["file"],
    help={
        "file": "a backup made by db.backup, of this lab or another",
        "to": "replay the binary logs up to '2026-11-21 14:30:05' (default: no replay)",
    },
)
def restore(c: Any, file: str, to: str = "", lab: str = "") -> None:
    """Replace the live data by a verified backup."""
    opened = open_session(lab)
    until = recovery.parse_time(to) if to else None
    path = Path(file).expanduser()
    if not path.is_file():
        what = f"there is no backup {path}{similar_path(path)}"
        raise UsageError(what, "invoke db.backup writes one; name its file")
    with _databases(opened, lock=True) as (context, fleet):
        log = partial(fleet.report, "host")
        done = db_restore.restore(context, fleet, path, until, log=log)
    values = results.DataRestored(
        primary=context.state.primary,
        rows=dict(done.rows),
        replayed=done.replayed,
        replicated=list(done.replicated),
        pending=list(done.pending),
    )
    if done.last:
        values["last_commit"] = done.last.astimezone(UTC).isoformat()
    publish(values)
    print(f"restored on {context.state.primary}: {_rows(done.rows)}")
    if done.last:
        print(
            f"replayed {done.replayed} later transactions, the last of {done.last:%H:%M:%S.%f} UTC"
        )
    for name in done.replicated:
        print(f"{name} has applied it")
    for name in done.pending:
        print(f"{name} has not applied it yet")
    if done.pending:
        print(for_lab("next: invoke db.status    # shows the lag", context.lab.name))


# --- shell ---------------------------------------------------------------------------------------


@task(
    remainder="ARGUMENTS",
    help={"machine": "which database machine (default: the primary)"},
)
def shell(c: Any, machine: str = "", lab: str = "") -> None:
    """Open MySQL's client on a database machine.

    Its arguments follow --, as in: db.shell -- -e "SELECT 1"
    """
    opened = open_session(lab)
    name = machine or opened.state.primary
    if "mysql" not in opened.lab.machine(name).roles:
        names = [m.name for m in opened.lab.with_role("mysql")]
        raise not_among(f"{name} has no database", "", names)
    problem = opened.provider.network_problem(opened.lab)
    if problem or name not in opened.provider.endpoints(opened.lab):
        raise LabError(f"{name} is not running {problem}".strip(), "invoke lab.up")
    terminal = "-t" if sys.stdin.isatty() and sys.stdout.isatty() else "-T"
    command = shlex.join(["sudo", "mysql", *remainder()])
    sys.stdout.flush()
    done = subprocess.run(ssh_command(opened.lab, terminal, name, command), check=False)
    raise SystemExit(done.returncode)
