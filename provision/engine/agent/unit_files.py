"""What systemd has loaded of a unit, and whether its process is older than what it reads."""

from __future__ import annotations

import calendar
import contextlib
import glob
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from provision.engine.agent.change_time import change_time, restored_paths
from provision.engine.agent.files import Journal
from provision.engine.agent.filesystem import is_real_directory, walk
from provision.engine.agent.process import AgentError, Log, must, run
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, action, batch_collector, collector

PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "FragmentPath",
    "DropInPaths",
    "NeedDaemonReload",
    "MainPID",
    "ActiveEnterTimestamp",
    "StateChangeTimestamp",
)
FOLDERS = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
)
"""Where unit files override those of packages (systemd.unit(5), "Unit File Load Path")."""


@dataclass(frozen=True)
class SystemdUnit:
    """A unit as systemd has loaded it, and the files that it would load.

    Args:
        load: ``loaded``, ``masked``, ``not-found``, ``bad-setting`` or another LoadState.
        files: time of the last change (ctime) by path, of the unit file and its drop-ins.
        stale: whether systemd has not loaded the present files (NeedDaemonReload).
        since: when the process started, or was last reloaded; seconds, 0 when it does not run.
        started: when it started.
        replaced: whether the program of the process was replaced or removed on disk.
    """

    load: str
    active: str
    files: Mapping[str, float] = field(default_factory=dict)
    stale: bool = False
    since: float = 0.0
    started: float = 0.0
    replaced: bool = False


@dataclass(frozen=True)
class LastChange:
    """The file that was changed last; ``changed`` is its ctime in seconds."""

    path: str
    changed: float


def systemd_unit_probe(name: str) -> Probe[SystemdUnit]:
    """A systemd unit and its files."""
    return Probe("systemd-unit", f"systemd unit {name}", {"name": name}, SystemdUnit)


def last_change_probe(name: str, paths: Sequence[str]) -> Probe[LastChange]:
    """The last change among files, links, and the regular files of trees; ``name`` is unique."""
    args = {"paths": list(paths)}
    return Probe("last-change", f"last change {name}", args, LastChange)


@batch_collector("systemd-unit")
def collect_systemd_units(batch: Sequence[Args]) -> list[SystemdUnit]:
    """See `systemd_unit_probe`; one ``systemctl show`` for all units."""
    argv = ["systemctl", "show", "--timestamp=us+utc", f"--property={','.join(PROPERTIES)}", "--"]
    output = must([*argv, *(args["name"] for args in batch)]).stdout
    blocks = output.strip("\n").split("\n\n")
    return [parse_unit(args["name"], block) for args, block in zip(batch, blocks, strict=True)]


def parse_unit(name: str, block: str) -> SystemdUnit:
    """One unit out of the output of ``systemctl show``, with the times of its files."""
    values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
    fragment = values.get("FragmentPath", "")
    paths = {*values.get("DropInPaths", "").split(), *overriding_drop_ins(name)}
    if fragment and fragment != "/dev/null":
        paths.add(fragment)
    active = values.get("ActiveState", "")
    started = parse_timestamp(values.get("ActiveEnterTimestamp", ""))
    changed = parse_timestamp(values.get("StateChangeTimestamp", ""))
    pid = values.get("MainPID", "0")
    return SystemdUnit(
        values.get("LoadState", ""),
        active,
        {path: ctime for path in sorted(paths) if (ctime := change_time(path))},
        values.get("NeedDaemonReload") == "yes",
        max(started, changed) if active == "active" else 0.0,
        started if active == "active" else 0.0,
        pid not in ("", "0") and _program_replaced(pid),
    )


def parse_timestamp(text: str) -> float:
    """Seconds of ``Mon 2026-11-30 01:14:02.818969 UTC``; 0 for an empty text."""
    words = text.split()
    if len(words) < 3:
        return 0.0
    whole, _, fraction = words[2].partition(".")
    moment = time.strptime(f"{words[1]} {whole}", "%Y-%m-%d %H:%M:%S")
    return calendar.timegm(moment) + float(f"0.{fraction or 0}")


def overriding_drop_ins(name: str) -> list[str]:
    """Drop-ins of a unit and of its type that no package owns."""
    kind = name.rpartition(".")[2]
    escaped = glob.escape(name)
    return [
        path
        for folder in FOLDERS
        for directory in (f"{escaped}.d", f"{kind}.d")
        for path in glob.glob(f"{folder}/{directory}/*.conf")
    ]


def generated(path: str) -> bool:
    """Whether systemd or LXC writes a unit file at boot or at each daemon-reload."""
    return path.startswith("/run/systemd/generator") or os.path.basename(path).startswith("zzz-lxc")


def _program_replaced(pid: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/exe").endswith(" (deleted)")
    except OSError:
        return False


@collector("last-change")
def collect_last_change(args: Args) -> LastChange:
    """See `last_change_probe`. Python's caches are written by the process itself."""
    latest, restored = LastChange("", 0.0), restored_paths()
    for top in args["paths"]:
        paths = [path for path, _ in walk(top)] if is_real_directory(top) else [top]
        for path in paths:
            changed = change_time(path, restored)
            if changed > latest.changed:
                latest = LastChange(path, changed)
    return latest


@action("unit-files")
def restore_unit_files(args: Args, journal: Journal, log: Log) -> None:
    """Remove files that override a unit (``remove``), and make systemd read the others again.

    Raises:
        AgentError: for a path that is not one of `FOLDERS`.
    """
    for path in args["remove"]:
        if not os.path.normpath(path).startswith(tuple(f"{folder}/" for folder in FOLDERS)):
            raise AgentError(f"{path} does not override a unit")
        log(f"removing {path}")
        journal.keep(path)
        journal.copies.keep(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        folder = os.path.dirname(os.path.normpath(path))
        # Without /run/systemd/system, systemctl takes the machine for one without systemd.
        if folder not in FOLDERS:
            with contextlib.suppress(OSError):
                os.rmdir(folder)
    run(["systemctl", "daemon-reload"])
