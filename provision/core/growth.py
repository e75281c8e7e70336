"""Everything that grows on a machine or in the lab's folder, with its bound and who enforces it.

`lab-purge.timer` removes what nothing else bounds; the checks ``growth/*`` report what exceeds its
bound, and log files that no entry covers.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20

HOURLY = "lab-purge.timer"
"""Name of the timer that enforces the bounds of entries with ``purge``."""

WATCHED = ("/var/log", "/var/crash", "/var/backups", "/var/spool", "/var/lib/systemd/coredump")
"""Folders of logs, dumps and copies: each file in them must be covered by an entry."""

BINARY_LOG_BYTES = 1024 * MIB
"""Older binary logs are purged when together they are larger; see also binlog_expire_logs_seconds.
"""

RELAY_LOG_BYTES = 1024 * MIB
TEMPORARY_TABLE_BYTES = 512 * MIB
JOURNAL_MIB = 64
RUNTIME_JOURNAL_MIB = 16

RELEASES_KEPT = 5
"""Releases of the application on a machine and on the controller."""

SCHEDULED_BACKUPS = 7
BACKUPS_KEPT = 20
"""Backups in the lab's folder, the newest; those in another folder are not counted."""

BACKUP_BYTES = 4096 * MIB
"""Of all of them."""

SNAPSHOTS = 20
"""Snapshots of a lab; lab.snapshot refuses another one."""

OVERWRITTEN_KEPT = 50
"""Folders of copies of files that the lab has overwritten."""

ERRANT_KEPT = 50
"""Files of saved errant transactions, the newest, in the lab's folder and on a machine."""

ERRANT_BYTES = 256 * MIB
"""Of all of these files."""

RECORDINGS_KEPT = 50
"""Recordings of terminals, the newest."""

RECORDINGS_BYTES = 256 * MIB

DRILL_LOG_BYTES = 32 * MIB
"""The log of drills; beyond it the oldest runs are forgotten."""

VAGRANT_LOG_BYTES = 8 * MIB
"""Vagrant's output; the former log is kept as well."""

POOL_BYTES = 1536 * MIB
"""The package pool; all topologies need some 300 MiB."""


@dataclass(frozen=True)
class Growth:
    """Something that grows, and its bound.

    Args:
        what: such as ``binary logs``.
        paths: patterns of absolute paths (glob(7), ``**`` for any depth); folders count with their
            content. On the controller, relative to the lab's folder.
        limit: bytes of all matches together.
        by: what enforces the bound.
        count: the number of matches; 0 for any number.
        role: only on machines with this role.
        purge: what `HOURLY` does above the bound: ``trim`` cuts the largest files to their newest
            part, ``remove`` removes the oldest matches, ``binlogs`` purges binary logs.
        record: bytes of one record, at which a file is cut; 0 to cut at the end of a line.
    """

    what: str
    paths: tuple[str, ...]
    limit: int
    by: str
    count: int = 0
    role: str = ""
    purge: str = ""
    record: int = 0


def _purged(
    what: str, *paths: str, limit: int, purge: str, count: int = 0, role: str = "", record: int = 0
) -> Growth:
    return Growth(what, paths, limit, HOURLY, count, role, purge, record)


MACHINE = (
    # --- logs: HAProxy, Nginx, MySQL, gunicorn and the lab's own programs write to the journal
    Growth("journal", ("/var/log/journal",), JOURNAL_MIB * MIB, "journald, SystemMaxUse"),
    Growth(
        "journal before the disk is mounted",
        ("/run/log/journal",),
        RUNTIME_JOURNAL_MIB * MIB,
        "journald, RuntimeMaxUse",
    ),
    _purged("logs of packages", "/var/log/*.log", "/var/log/apt/*", limit=4 * MIB, purge="trim"),
    _purged(
        "records of logins",
        *("/var/log/btmp*", "/var/log/wtmp*", "/var/log/lastlog", "/var/log/faillog"),
        limit=2 * MIB,
        purge="trim",
        record=384,
    ),
    # Also where their service was until a change of topology.
    _purged("Nginx's log files", "/var/log/nginx/*", limit=4 * MIB, purge="trim"),
    _purged("MySQL's log files", "/var/log/mysql/*", limit=4 * MIB, purge="trim"),
    _purged("compressed logs", "/var/log/**/*.gz", "/var/log/**/*.xz", limit=MIB, purge="remove"),
    # --- what failures leave behind
    _purged(
        "core dumps",
        *("/core*", "/var/crash/*", "/var/lib/systemd/coredump/*", "/var/lib/*/core"),
        # Not below /srv/foobar: applications have modules called core.
        *("/var/lib/*/core.*", "/srv/foobar/core", "/srv/foobar/core.*"),
        limit=0,
        purge="remove",
    ),
    Growth(
        "temporary files",
        ("/var/tmp/*",),
        512 * MIB,
        "systemd-tmpfiles-clean.timer, after 30 days",
    ),
    # --- packages
    _purged(
        "downloaded packages",
        *("/var/cache/apt/archives/*.deb", "/var/cache/apt/archives/partial/*"),
        limit=16 * MIB,
        purge="remove",
    ),
    Growth("package lists", ("/var/lib/apt/lists",), 1024 * MIB, "apt, one list per source"),
    Growth(
        "copies of the package database",
        ("/var/backups/dpkg.*", "/var/backups/alternatives.*", "/var/backups/apt.*"),
        64 * MIB,
        "dpkg-db-backup.timer, seven of each",
    ),
    # --- the lab
    Growth(
        "copies of overwritten files",
        ("/var/lib/foobar-lab/overwritten/*",),
        1024 * MIB,
        "lab.up",
        count=OVERWRITTEN_KEPT,
    ),
    _purged(
        "copies of lab.rescue",
        "/var/backups/foobar-lab/rescue-*",
        limit=16 * MIB,
        count=20,
        purge="remove",
    ),
    _purged(
        "copies from a removed lab",
        "/var/backups/foobar-lab-overwritten/*",
        limit=256 * MIB,
        purge="remove",
    ),
    Growth(
        "releases",
        ("/srv/foobar/releases/*",),
        256 * MIB,
        "app.deploy",
        count=RELEASES_KEPT + 1,  # one more while a deployment runs
        role="app",
    ),
    Growth(
        "virtual environments of releases",
        ("/srv/foobar/environments/*",),
        2048 * MIB,
        "app.deploy",
        count=RELEASES_KEPT + 1,
        role="app",
    ),
    # --- databases
    _purged(
        "definitions of dropped accounts",
        "/var/lib/foobar-lab/dropped-accounts.sql",
        limit=MIB,
        purge="trim",
        role="mysql",
    ),
    _purged(
        "errant transactions",  # until lab.up moves them to the controller
        "/var/lib/foobar-lab/errant/*",
        limit=ERRANT_BYTES,
        count=ERRANT_KEPT,
        purge="remove",
        role="mysql",
    ),
    _purged(
        "binary logs",
        "/var/lib/mysql/binlog.*",
        limit=BINARY_LOG_BYTES,
        purge="binlogs",
        role="mysql",
    ),
    Growth(
        "relay logs",
        ("/var/lib/mysql/relay.*",),
        RELAY_LOG_BYTES,
        "mysqld, relay_log_space_limit",
        role="mysql",
    ),
    Growth(
        "temporary tables",
        ("/var/lib/mysql/ibtmp1",),
        TEMPORARY_TABLE_BYTES,
        "mysqld, innodb_temp_data_file_path",
        role="mysql",
    ),
    _purged(
        "scheduled backups",
        *("/var/backups/lab-mysql/*.*", "/var/backups/lab-mysql/taken/*"),
        limit=2048 * MIB,
        count=SCHEDULED_BACKUPS + 1,  # one more while it is made
        purge="remove",
        role="mysql",
    ),
    # --- monitoring
    Growth(
        "metrics",
        ("/var/lib/prometheus/lab",),
        384 * MIB,  # 128 MB of blocks, the write-ahead log and the open block
        "Prometheus, storage.tsdb.retention",
        role="monitoring",
    ),
    Growth(
        "state of alerts",
        ("/var/lib/prometheus/alertmanager",),
        32 * MIB,
        "Alertmanager, data.retention",
        role="monitoring",
    ),
)
"""On machines."""

CONTROLLER = (
    Growth("releases", ("releases/*",), 128 * MIB, "app.deploy", count=RELEASES_KEPT + 2),
    Growth("snapshots", ("snapshots/*",), 4096 * MIB, "lab.snapshot", count=SNAPSHOTS),
    Growth("backups", ("backups/*",), BACKUP_BYTES, "db.backup", count=BACKUPS_KEPT),
    # A run of a drill records some lines, and up to 1000 commands per machine.
    Growth("log of drills", ("drills/events.jsonl",), DRILL_LOG_BYTES, "drill.start"),
    Growth(
        "errant transactions",
        ("errant/*",),
        ERRANT_BYTES,
        "lab.up and db.rejoin, which keep the newest",
        count=ERRANT_KEPT,
    ),
    Growth(
        "recordings",
        ("recordings/*.cast",),
        RECORDINGS_BYTES,
        "each new recording",
        count=RECORDINGS_KEPT,
    ),
    Growth("Vagrant's log", ("vagrant.log*",), 2 * VAGRANT_LOG_BYTES, "lab.up"),
)
"""In ``.lab/LAB``."""

HOST = (Growth("package pool", ("*",), POOL_BYTES, "lab.up and lab.prefetch"),)
"""In the folder of the package pool, which all labs of a computer share."""


def on_machine(roles: tuple[str, ...]) -> tuple[Growth, ...]:
    """The entries that apply to a machine with these roles."""
    return tuple(entry for entry in MACHINE if not entry.role or entry.role in roles)
