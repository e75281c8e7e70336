"""Backups of the database, and getting one back: db.backup, db.restore.

A backup is made on a replica (see ``remote/mysql_backup.py``), comes over the lab's SSH connection,
and is verified here. A restore verifies all of the file first, loads it beside the live schema on
the primary, and exchanges the tables in one step; replicas follow through the binary log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from provision.core.errors import HostError, LabError, UsageError
from provision.database.agent import backup as mysql_backup
from provision.database.agent.backup import BackupError
from provision.database.gtid import Gtids
from provision.database.servers import call, status, typed
from provision.engine import stream as db_stream
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host

FOLDER = "backups"
"""Below the lab's directory: where backups are put unless a folder is given."""

PREFIX = "lab_restore_"
LONG = 3600.0
"""Seconds without a word from a machine that dumps, or looks through binary logs."""

LAG = 30
"""Seconds that a replica may be behind and still make the backup."""


@dataclass(frozen=True)
class Backup:
    """A backup that was made.

    Args:
        path: on the controller.
        machine: that made it.
        rows: a table.
        gtids: its position.
        size: bytes.
    """

    path: Path
    machine: str
    rows: dict[str, int]
    gtids: str
    size: int


@dataclass(frozen=True)
class Restored:
    """What a restore did.

    Args:
        rows: a table, after it.
        replayed: transactions of the binary logs that came after the backup.
        last: when the last of them was committed; None without any.
        followed: replicas that have it too.
        late: replicas that do not have it yet.
    """

    rows: dict[str, int]
    replayed: int
    last: datetime | None
    followed: tuple[str, ...]
    late: tuple[str, ...]


def backup(context: Context, fleet: Fleet, folder: Path | None = None) -> Backup:
    """Make a backup while the lab serves, and bring it here.

    Args:
        context: the lab.
        fleet: its running machines.
        folder: where to put it; by default ``.lab/<lab>/backups``.

    Raises:
        LabError: when no database can make one, or it did not arrive whole.
    """
    name = _maker(context, fleet)
    host = fleet.host(name)
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    file = f"{mysql_backup.SCHEMA}-{moment}.tar"
    there = f"{mysql_backup.FOLDER}/taken/{file}"
    here = (folder or context.lab.directory / FOLDER).expanduser() / file
    call(host, "backup", LONG, path=there)
    try:
        db_stream.fetch(host, db_stream.pipeline(["cat", there]), here)
    finally:
        host.run("rm", "-f", there)
    try:
        manifest = mysql_backup.verify(str(here))
    except BackupError as error:
        here.unlink(missing_ok=True)
        raise LabError(f"the backup did not arrive whole: {error}") from None
    return Backup(here, name, manifest["rows"], manifest["gtids"], here.stat().st_size)


def _maker(context: Context, fleet: Fleet) -> str:
    """A replica that is up to date, else the primary."""
    found = status(context, fleet)
    for each in found:
        now = each.status
        level = now.following and now.lag is not None and now.lag <= LAG and not each.errant
        if each.role == "replica" and now.up and level:
            return each.machine
    for each in found:
        if each.role == "primary" and each.status.up:
            return each.machine
    raise LabError(
        "no database can make a backup: no replica is up to date, and the primary does not answer",
        typed(context, "db.status"),
    )


def understand_time(text: str) -> int:
    """A moment as microseconds since 1970.

    Args:
        text: ``2026-11-21 14:30:05.5`` in this computer's time zone, with ``Z`` or ``+01:00`` in
            that one, or ``14:30:05`` for today.

    Raises:
        UsageError: when it is none.
    """
    words = text.strip()
    if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?", words):
        hour, _, rest = words.partition(":")
        words = f"{datetime.now().astimezone():%Y-%m-%d} {hour.zfill(2)}:{rest}"
    try:
        moment = datetime.fromisoformat(words)
    except ValueError:
        raise UsageError(
            f"--to is {text!r}", "such as '2026-11-21 14:30:05' (this computer's time) or …Z (UTC)"
        ) from None
    return round(moment.astimezone(UTC).timestamp() * 1_000_000)


def restore(
    context: Context,
    fleet: Fleet,
    path: Path,
    until: int | None = None,
    *,
    seconds: float = 300.0,
    say: Callable[[str], None] = lambda _text: None,
) -> Restored:
    """Put the data of a backup in the place of the live data.

    Args:
        context: the lab; a fresh one or one that serves.
        fleet: its running machines.
        path: from `backup`, of this lab or another.
        until: also what was committed after the backup, up to this moment (microseconds since
            1970), out of the binary logs.
        seconds: how long replicas may take to follow.
        say: told what is being done.

    Raises:
        LabError: when the file is not whole, or anything fails; the live data is untouched then.
    """
    say("verifying the backup")
    try:
        manifest = mysql_backup.verify(str(path))
    except BackupError as error:
        raise LabError(f"{error}; nothing was touched") from None
    primary = fleet.host(context.state.primary)
    schema = f"{PREFIX}{datetime.now(UTC):%Y%m%d%H%M%S}"
    replay = None
    if until is not None:
        say("looking through the binary logs")
        replay = _replay(context, fleet, manifest, until)
    call(primary, "restore_begin", schema=schema, prefix=PREFIX)
    say("loading the backup beside the live data")
    _load(context, primary, schema, _chunks(path))
    loaded = call(primary, "restore_rows", LONG, schema=schema)["rows"]
    if loaded != manifest["rows"]:
        raise LabError(
            f"the backup was not loaded whole: {_difference(manifest['rows'], loaded)}; the live "
            "data is untouched"
        )
    if replay is not None and replay["gtids"]:
        say(f"repeating {len(replay['gtids'])} transactions from the binary logs")
        _repeat(context, fleet, primary, schema, replay)
        loaded = call(primary, "restore_rows", LONG, schema=schema)["rows"]
    note = f"{path.name}, made {manifest['made']}"
    done = call(
        primary,
        "restore_swap",
        LONG,
        live=mysql_backup.SCHEMA,
        loaded=schema,
        prefix=PREFIX,
        note=note,
    )
    followed, late = _wait_for_replicas(context, fleet, done["gtids"], seconds)
    last = None
    if replay is not None and replay["last"]:
        last = datetime.fromtimestamp(replay["last"] / 1_000_000, UTC)
    return Restored(loaded, len(replay["gtids"]) if replay else 0, last, followed, late)


def _chunks(path: Path) -> Iterator[bytes]:
    """The dump in pieces of some 64 KiB."""
    held: list[bytes] = []
    size = 0
    for line in mysql_backup.lines(str(path)):
        held.append(line)
        size += len(line)
        if size >= db_stream.CHUNK:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)


def _load(context: Context, host: Host, schema: str, chunks: Iterator[bytes]) -> None:
    client = ["mysql", "--binary-mode", "--default-character-set=utf8mb4", schema]
    try:
        db_stream.feed(host, db_stream.pipeline(client), chunks)
    except HostError as error:
        raise LabError(
            f"{host.name}: loading failed; the live data is untouched",
            typed(context, f"lab.logs {host.name}") + " --service mysql",
            output=error.output,
        ) from None


def _difference(wanted: dict[str, int], got: dict[str, int]) -> str:
    names = sorted({*wanted, *got})
    parts = [
        f"{name} has {got.get(name, 0)} of {wanted.get(name, 0)} rows"
        for name in names
        if wanted.get(name) != got.get(name)
    ]
    return ", ".join(parts)


def _replay(context: Context, fleet: Fleet, manifest: dict[str, Any], until: int) -> dict[str, Any]:
    """Which transactions lie between a backup and a moment, and who has them.

    Raises:
        LabError: when no server's binary logs reach back to the backup, or a restore lies between.
    """
    primary = context.state.primary
    made = round(datetime.fromisoformat(manifest["made"]).timestamp() * 1_000_000)
    if until < made - 1_000_000:
        raise LabError(
            f"the backup was made at {manifest['made']}, after the moment that you want",
            f"take an earlier backup: {typed(context, 'db.status')} lists them",
        )
    between = call(fleet.host(primary), "restores", after=manifest["gtids"])["restores"]
    for each in between:
        if each["moment"] <= until:
            moment = datetime.fromtimestamp(each["moment"] / 1_000_000, UTC)
            raise LabError(
                f"the data was replaced by a restore at {moment:%Y-%m-%d %H:%M:%S} UTC "
                f"({each['note']}); the binary logs cannot be followed across that",
                "take a backup that was made after it, or an earlier moment",
            )
    names = [primary, *(m.name for m in context.lab.with_role("mysql") if m.name != primary)]
    gaps = []
    for name in names:
        if name not in fleet.hosts:
            continue
        after = manifest["gtids"]
        found: dict[str, Any] = call(
            fleet.host(name), "committed_until", LONG, after=after, until=until
        )
        # A log that lacks what came right after the backup is of no use.
        if not found["missing"]:
            return found | {"machine": name, "after": after}
        gaps.append(f"{name} no longer has {found['missing']}")
    raise LabError(
        f"no binary logs reach back to the backup: {'; '.join(gaps)}",
        "take a newer backup, or leave --to out",
    )


def _repeat(
    context: Context, fleet: Fleet, primary: Host, schema: str, replay: dict[str, Any]
) -> None:
    """Apply transactions of the live schema to the loaded one."""
    wanted = str(Gtids.parse(",".join(replay["gtids"])))
    reading = [
        "mysqlbinlog",
        "--skip-gtids",
        f"--include-gtids={wanted}",
        # The rewriting comes first, so the filter names the new schema (the manual, mysqlbinlog).
        f"--rewrite-db={mysql_backup.SCHEMA}->{schema}",
        f"--database={schema}",
        *replay["logs"],
    ]
    if replay["machine"] == primary.name:
        chunks: Iterator[bytes] = iter(())
        command = db_stream.pipeline(reading, ["mysql", "--binary-mode"])
    else:
        copy = context.lab.directory / FOLDER / f".{schema}.sql"
        db_stream.fetch(fleet.host(replay["machine"]), db_stream.pipeline(reading), copy)
        chunks = _file_chunks(copy)
        command = db_stream.pipeline(["mysql", "--binary-mode"])
    try:
        db_stream.feed(primary, command, chunks)
    except HostError as error:
        raise LabError(
            f"{primary.name}: the binary logs could not be repeated; the live data is untouched",
            output=error.output,
        ) from None


def _file_chunks(path: Path) -> Iterator[bytes]:
    """A file's content, after which it is removed."""
    try:
        with path.open("rb") as file:
            while chunk := file.read(db_stream.CHUNK):
                yield chunk
    finally:
        path.unlink(missing_ok=True)


def _wait_for_replicas(
    context: Context, fleet: Fleet, gtids: str, seconds: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = [m.name for m in context.lab.with_role("mysql") if m.name != context.state.primary]

    def one(host: Host) -> bool:
        try:
            done = call(host, "catch_up", seconds + 30, gtids=gtids, seconds=seconds)
        except HostError:
            return False
        return not done["missing"]

    running = [name for name in names if name in fleet.hosts]
    found = fleet.each(one, running) if running else {}
    followed = tuple(name for name, ok in found.items() if ok)
    return followed, tuple(name for name in names if name not in followed)
