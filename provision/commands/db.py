"""`db.*`: the databases: how they are, who is primary, and what is kept of them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from provision.commands import show
from provision.commands.base import Session, console, number, remainder, session, show_json, task
from provision.core.errors import LabError, UsageError
from provision.database import backup as db_backup
from provision.database import promote as db_promote
from provision.database import rejoin as db_rejoin
from provision.database import servers as database
from provision.database.failover import control as automatic
from provision.database.promote import Promotion
from provision.database.servers import Database

HEADER = (
    "DATABASE",
    "ROLE",
    "WRITES",
    "EPOCH",
    "COMMITS",
    "RECEIVING",
    "APPLYING",
    "LAG",
    "MISSING",
    "BINARY LOG",
)


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _row(each: Database) -> list[str]:
    now = each.status
    if not now.up:
        return [each.machine, each.role, "[red]down[/]", "", "", "", "", "", "", ""]
    writes = "accepted" if now.writable else "refused"
    if now.writable != (each.role == "primary"):
        writes = f"[red]{writes}[/]"
    commits = each.semi_sync
    if each.role == "primary" and not now.semisync_active:
        commits = f"[red]{commits}[/]"
    lag = "" if now.lag is None else f"{now.lag} s"
    return [
        each.machine,
        each.role,
        writes,
        str(now.epoch),
        commits,
        _thread(now.io_running),
        _thread(now.sql_running),
        lag,
        "" if each.missing is None else str(each.missing),
        now.binlog,
    ]


def _thread(running: str) -> str:
    return running if running in ("Yes", "") else f"[red]{running}[/]"


def _notes(each: Database) -> list[str]:
    """What does not fit into a row."""
    now = each.status
    found = [f"executed  {now.executed or 'nothing'}"] if now.up else []
    if now.received:
        found.append(f"received  {now.received}")
    if each.errant:
        found.append(f"[red]errant    {each.errant} (invoke db.rejoin {each.machine})[/]")
    if each.error or now.error:
        found.append(f"[red]error     {each.error or now.error}[/]")
    for kept in each.backups:
        size = int(kept["size"]) / 1e6
        found.append(f"backup    {kept['path']}, {kept['made']}, {size:.1f} MB")
    if each.next_backup:
        found.append(f"next one  {each.next_backup}")
    return found


@task(help={"json": "for programs"})
def status(c: Any, lab: str = "", json: bool = False) -> None:
    """Show who is primary, who follows, how far behind, and whether commits wait for a replica."""
    now = session(lab)
    with now.fleet() as fleet:
        context = automatic.adopt(now.context, fleet)
        found = database.status(context, fleet)
        stands = automatic.status(context, fleet)
    if json:
        show_json([asdict(each) | {"semi_sync": each.semi_sync} for each in found])
        return
    out = console()
    show.grid(out, HEADER, [_row(each) for each in found])
    for each in found:
        out.print(f"\n{each.machine}")
        for line in _notes(each):
            out.print(f"  {line}")
    if stands.on:
        out.print(f"\n{stands.sentence}")


@task(positional=["what"], help={"what": "on, off or status", "json": "status, for programs"})
def autopromote(c: Any, what: str = "status", lab: str = "", json: bool = False) -> None:
    """Let the lab promote its replica by itself when the primary is certainly dead, or not."""
    if what not in ("on", "off", "status"):
        raise UsageError(f"db.autopromote {what!r}", "one of on, off, status")
    now = session(lab)
    if what == "status":
        with now.fleet() as fleet:
            stands = automatic.status(automatic.adopt(now.context, fleet), fleet)
        if json:
            show_json(asdict(stands))
            return
        print(stands.sentence)
        for name, active in (stands.active or {}).items():
            print(f"{name}: {active}")
        return
    with now.lock(), now.fleet(lambda name, text: _tell(f"{name}: {text}")) as fleet:
        automatic.switch(now.context, fleet, what == "on")
    print(f"automatic promotion is {what}")


@task(
    positional=["machine"],
    help={
        "old_primary_is_dead": "promote although it cannot hand over; refused while it answers",
        "deadline": "seconds that the new primary may need to apply what it received",
    },
)
def promote(
    c: Any, machine: str, old_primary_is_dead: bool = False, deadline: str = "30", lab: str = ""
) -> None:
    """Let another machine's database take the writes, without losing one."""
    now = session(lab)
    limit = number(deadline, "--deadline", 1, 86400)
    with now.lock(), now.fleet(lambda name, text: _tell(f"{name}: {text}")) as fleet:
        context = automatic.adopt(now.context, fleet)
        if old_primary_is_dead:
            done = db_promote.promote_after_death(
                context, fleet, now.provider, machine, seconds=limit
            )
        else:
            done = db_promote.promote(context, fleet, machine, seconds=limit)
    _show_promotion(done)


def _show_promotion(done: Promotion) -> None:
    if done.old == done.new:
        print(f"{done.new} is primary (epoch {done.epoch})")
    else:
        print(
            f"{done.new} is primary instead of {done.old} (epoch {done.epoch}); "
            f"{done.seconds:.2f} s without writes"
        )
    for name in done.followed:
        print(f"{name} follows it")
    for name, why in done.left.items():
        print(f"{name} does not follow yet: {why}")


@task(
    positional=["machine"],
    help={
        "rebuild": "copy everything from the primary, also when attaching would do",
        "discard": "go on although not all of its own transactions can be saved",
    },
)
def rejoin(
    c: Any, machine: str, rebuild: bool = False, discard: bool = False, lab: str = ""
) -> None:
    """Make a server a replica again; what only it has is kept in a file first."""
    now = session(lab)
    with now.lock(), now.fleet(lambda name, text: _tell(f"{name}: {text}")) as fleet:
        context = automatic.adopt(now.context, fleet)
        done = db_rejoin.rejoin(context, fleet, machine, rebuild=rebuild, discard=discard)
    if done.saved:
        print(
            f"{done.machine} had {done.count} transactions that {context.state.primary} does not "
            f"have ({done.errant}); they are kept in {done.saved} (zless shows them)"
        )
    print(f"{done.machine} was {done.how} and follows {context.state.primary}")


@task(
    help={"folder": "where to put it (default: .lab/<lab>/backups)", "json": "for programs"},
)
def backup(c: Any, folder: str = "", lab: str = "", json: bool = False) -> None:
    """Make a consistent backup while the lab serves, from a replica, and bring it here."""
    now = session(lab)
    with now.fleet(lambda name, text: _tell(f"{name}: {text}")) as fleet:
        done = db_backup.backup(
            automatic.adopt(now.context, fleet), fleet, Path(folder) if folder else None
        )
    if json:
        show_json(asdict(done))
        return
    rows = ", ".join(f"{table} {count}" for table, count in sorted(done.rows.items()))
    print(f"{done.path}")
    print(f"made on {done.machine}: {done.size / 1e6:.2f} MB; rows: {rows}; at {done.gtids}")


@task(
    positional=["file"],
    help={
        "file": "from db.backup, of this lab or another",
        "to": "also repeat what came after it, up to this moment: '2026-11-21 14:30:05'",
    },
)
def restore(c: Any, file: str, to: str = "", lab: str = "") -> None:
    """Put a backup in the place of the live data; a damaged file is refused before that."""
    now = session(lab)
    until = db_backup.understand_time(to) if to else None
    with now.lock(), now.fleet(lambda name, text: _tell(f"{name}: {text}")) as fleet:
        context = automatic.adopt(now.context, fleet)
        done = db_backup.restore(context, fleet, Path(file).expanduser(), until, say=_tell)
    rows = ", ".join(f"{table} {count}" for table, count in sorted(done.rows.items()))
    print(f"restored on {context.state.primary}: {rows}")
    if done.last:
        print(f"with {done.replayed} later transactions, the last of {done.last:%H:%M:%S.%f} UTC")
    for name in done.followed:
        print(f"{name} has it too")
    for name in done.late:
        print(f"{name} does not have it yet: invoke db.status shows its lag")


@task(help={"machine": "which (default: the primary)"})
def shell(c: Any, machine: str = "", lab: str = "") -> None:
    """Open MySQL's client on a database machine; what follows -- goes to it: -- -e "SELECT 1"."""
    now = session(lab)
    name = machine or now.state.primary
    if "mysql" not in now.lab.machine(name).roles:
        raise LabError(f"{name} has no database")
    raise SystemExit(_mysql(now, name, remainder()))


def _mysql(now: Session, name: str, words: list[str]) -> int:
    """MySQL's client over ssh, with a terminal when there is one; returns its status."""
    import shlex

    problem = now.provider.link_problem(now.lab)
    if problem or name not in now.provider.endpoints(now.lab):
        raise LabError(f"{name} is not running {problem}".strip(), "invoke lab.up")
    config = str(now.lab.directory / "ssh_config")
    terminal = ["-t"] if sys.stdin.isatty() and sys.stdout.isatty() else ["-T"]
    command = shlex.join(["sudo", "mysql", *words])
    sys.stdout.flush()
    return subprocess.run(["ssh", "-F", config, *terminal, name, command], check=False).returncode
