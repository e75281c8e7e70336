"""The original state of a machine that existed before the lab, and restoring it.

It is recorded before the first change, and extended by what later runs are about to change. The
record is removed last, so that an interrupted clean-up can be completed.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from provision.engine.agent.atomic import write_atomically
from provision.engine.agent.codec import decode, encode
from provision.engine.agent.files import Journal
from provision.engine.agent.filesystem import kind_of, read_bytes, read_text, status_of
from provision.engine.agent.overwritten import BACKUPS, move_to_backups
from provision.engine.agent.packages import HELD, installed_packages
from provision.engine.agent.process import AgentError, Log, must, run
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, action, collector

HOME = "/var/lib/foobar-lab"
RECORD = f"{HOME}/originals.json"

CLEANUP_SECONDS = 180.0
"""apt-get computes what would be removed."""

UNITS = "/etc/systemd/system/"
STRICT = [
    "-o",
    "APT::AutoRemove::RecommendsImportant=0",
    "-o",
    "APT::AutoRemove::SuggestsImportant=0",
]
"""Packages that are only recommended or suggested are removed too (apt-get(8), autoremove)."""

REMOVED = re.compile(r"^(?:Purg|Remv) (\S+)", re.MULTILINE)
"""Packages in the output of ``apt-get -s purge``."""

NAME = re.compile(r"(?:^|[|])\s*([a-z0-9][a-z0-9+.-]*)")
"""Package names in one relation such as ``libc6 (>= 2.34) | a:any``."""

Dependencies = Mapping[str, Sequence[set[str]]]
"""By installed package, what it depends on (deb-control(5)): a set of alternatives each."""


@dataclass(frozen=True)
class OriginalPath:
    """What was at a path.

    Args:
        type: as in `PathFacts`.
        missing: for an absent path, the highest folder on the way that did not exist.
        content: base64.
    """

    type: str
    missing: str = ""
    target: str = ""
    content: str = ""
    uid: int = 0
    gid: int = 0
    mode: int = 0


@dataclass(frozen=True)
class OriginalState:
    """The record of a machine.

    Args:
        packages: versions by name.
        active: services.
        users: whether each existed.
    """

    packages: Mapping[str, str]
    active: tuple[str, ...]
    paths: Mapping[str, OriginalPath] = field(default_factory=dict)
    users: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class CleanupPlan:
    """What a clean-up does to a machine.

    Args:
        recorded: False when there is no record; then nothing can be done.
        purge: packages to remove.
        stay: packages that are newer than before, with their versions; they are kept.
        remove: files and folders to remove.
        restore: files that get their old content back.
        users: accounts to remove.
    """

    recorded: bool
    purge: tuple[str, ...] = ()
    stay: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()
    users: tuple[str, ...] = ()


def cleanup_probe(packages: Sequence[str]) -> Probe[CleanupPlan]:
    """What a clean-up would do; ``packages`` are those that the lab installs."""
    return Probe("cleanup", "cleanup", {"packages": list(packages)}, CleanupPlan, CLEANUP_SECONDS)


# --- the record ----------------------------------------------------------------------------------


def load() -> OriginalState:
    """The record; without one, a new one of the present state."""
    text = read_text(RECORD)
    if not text:
        return OriginalState(installed_packages(), active_services())
    return decode(OriginalState, json.loads(text))


def save(record: OriginalState) -> None:
    """Write the record; it may contain secrets of the machine's owner."""
    os.makedirs(HOME, exist_ok=True)
    write_atomically(RECORD, json.dumps(encode(record)).encode(), 0o600)


@action("record-originals")
def record_originals(args: Args, journal: Journal, log: Log) -> None:
    """Record what is at ``paths`` and which ``users`` exist, unless that is recorded already."""
    record = load()
    paths = {path: original(path) for path in args["paths"] if path not in record.paths}
    existing = _user_names()
    users = {name: name in existing for name in args["users"] if name not in record.users}
    if paths or users or not os.path.exists(RECORD):
        save(replace(record, paths={**record.paths, **paths}, users={**record.users, **users}))


def original(path: str) -> OriginalPath:
    """What is at a path, with its content."""
    status = status_of(path)
    if status is None:
        return OriginalPath("absent", missing=first_missing(path))
    kind, content = kind_of(status), ""
    if kind == "link":
        return OriginalPath(kind, target=os.readlink(path))
    if kind == "file":
        content = base64.b64encode(read_bytes(path)).decode()
    mode = stat.S_IMODE(status.st_mode)
    return OriginalPath(kind, "", "", content, status.st_uid, status.st_gid, mode)


def first_missing(path: str) -> str:
    """The highest part of a path that does not exist."""
    parent = os.path.dirname(path)
    return path if os.path.lexists(parent) or parent == path else first_missing(parent)


def active_services() -> tuple[str, ...]:
    """The services that run."""
    argv = ["systemctl", "list-units", "--type=service", "--state=active", "--plain", "--no-legend"]
    return tuple(line.split()[0] for line in run(argv).stdout.splitlines() if line.strip())


def _user_names() -> set[str]:
    import pwd

    return {entry.pw_name for entry in pwd.getpwall()}


# --- packages ------------------------------------------------------------------------------------


def dependencies() -> Dependencies:
    """The dependencies of installed packages, with the packages that provide them."""
    form = "${Package}\t${db:Status-Status}\t${Provides}\t${Pre-Depends}, ${Depends}\n"
    groups: dict[str, list[set[str]]] = {}
    providers: dict[str, set[str]] = {}
    for line in run(["dpkg-query", "-W", "-f", form]).stdout.splitlines():
        package, status, provides, relations = line.split("\t")
        if status != "installed":
            continue
        alternatives = [set(NAME.findall(relation)) for relation in relations.split(",")]
        groups.setdefault(package, []).extend(group for group in alternatives if group)
        for relation in provides.split(","):
            for name in NAME.findall(relation):
                providers.setdefault(name, set()).add(package)
    for package_groups in groups.values():
        for group in package_groups:
            group |= {package for name in list(group) for package in providers.get(name, ())}
    return groups


def required(packages: set[str], depends: Dependencies) -> set[str]:
    """These packages and their dependencies: all installed alternatives of those they lack."""
    result: set[str] = set()
    pending = list(packages)
    while pending:
        package = pending.pop()
        if package not in result:
            result.add(package)
            for group in depends.get(package, []):
                if not group & packages:
                    pending += group & depends.keys()
    return result


# --- the clean-up --------------------------------------------------------------------------------


@collector("cleanup")
def collect_cleanup(args: Args) -> CleanupPlan:
    """See `cleanup_probe`."""
    return plan_cleanup(args["packages"])


def plan_cleanup(lab_packages: Sequence[str]) -> CleanupPlan:
    """The difference between the record and the present state."""
    if not os.path.exists(RECORD):
        return CleanupPlan(False)
    record, installed = load(), installed_packages()
    depends = dependencies()
    kept = required(set(record.packages), depends)
    lab_only = sorted(name for name in lab_packages if name in installed and name not in kept)
    purge: set[str] = set()
    if lab_only:
        # Their dependencies are removed too; but never a package that was there before, or one
        # that such a package requires, or one that somebody else has installed since.
        argv = ["apt-get", "-s", "-q", *STRICT, "purge", "--autoremove", *lab_only]
        removed = set(REMOVED.findall(must(argv, timeout=120).stdout))
        purge = removed & required(set(lab_only), depends) - kept
    absent = [entry.missing for entry in record.paths.values() if entry.type == "absent"]
    changed = [
        path
        for path, entry in record.paths.items()
        if entry.type in ("file", "link") and original(path) != entry
    ]
    newer = [
        f"{name} {installed[name]}"
        for name in kept
        if name in installed and installed[name] != record.packages.get(name)
    ]
    existing = _user_names()
    users = [name for name, existed in record.users.items() if not existed and name in existing]
    return CleanupPlan(
        True,
        purge=tuple(sorted(purge)),
        stay=tuple(sorted(newer)),
        remove=tuple(sorted({path for path in absent if os.path.lexists(path)})),
        restore=tuple(sorted(changed)),
        users=tuple(sorted(users)),
    )


@action("clean-up")
def clean_up(args: Args, journal: Journal, log: Log) -> None:
    """Do what `plan_cleanup` plans for ``packages``; restart those of ``services`` that ran."""
    plan = plan_cleanup(args["packages"])
    if not plan.recorded:
        raise AgentError("the original state of this machine is not recorded")
    record = load()
    units = [path.removeprefix(UNITS) for path in plan.remove if path.startswith(UNITS)]
    units = [name for name in units if "/" not in name]
    units = [name for name in units if name.endswith((".service", ".socket", ".timer", ".path"))]
    if units:
        log("stopping the lab's services")
        run(["systemctl", "disable", "--now", *units], timeout=120)
    if plan.purge:
        log(f"removing {len(plan.purge)} packages")
        _purge(plan.purge, record)
    log("restoring files")
    for path in plan.remove:
        must(["rm", "-rf", "--one-file-system", "--", path])
    for path in plan.restore:
        restore(path, record.paths[path])
    for name in plan.users:
        must(["userdel", name])
    run(["find", UNITS, "-type", "d", "-name", "*.wants", "-empty", "-delete"])
    run(["systemctl", "daemon-reload"])
    run(["systemctl", "reset-failed"])
    for service in sorted(set(record.active) & set(args["services"])):
        run(["systemctl", "restart", service], timeout=120)
    if move_to_backups():
        log(f"copies of files that the lab has overwritten are in {BACKUPS}")
    must(["rm", "-rf", "--one-file-system", "--", HOME])


def restore(path: str, entry: OriginalPath) -> None:
    """Write what was at a path: a file or a link."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if entry.type == "link":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.symlink(entry.target, path)
    else:
        write_atomically(path, base64.b64decode(entry.content), entry.mode, entry.uid, entry.gid)


def _purge(names: Sequence[str], record: OriginalState) -> None:
    """Purge packages; refused when one that was there before would be removed with them."""
    output = must(["apt-get", "-s", "-q", "purge", *names], timeout=120).stdout
    lost = sorted(set(REMOVED.findall(output)) & record.packages.keys())
    if lost:
        what = "would be removed with the lab's packages, but was there before"
        raise AgentError(f"{', '.join(lost)} {what}")
    options = ["-q", "-y", "-o", "DPkg::Lock::Timeout=120", HELD]  # the lab holds some of them
    must(["apt-get", *options, "purge", *names], timeout=900)
