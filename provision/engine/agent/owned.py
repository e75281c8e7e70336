"""Directories and files whose content the lab owns: what is there, and what was there at first.

A file in an owned directory is expected when the lab declares it, a Debian package owns it, or it
was there when the lab first saw the directory (the provider put it there). That record is made once
and holds contents, so that what was changed or removed since is restored.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from provision.engine.agent.atomic import write_atomically
from provision.engine.agent.codec import decode, encode
from provision.engine.agent.files import Journal
from provision.engine.agent.filesystem import is_real_directory, read_text, shown
from provision.engine.agent.originals import OriginalPath, original, restore
from provision.engine.agent.process import AgentError, Log, run
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, action, batch_collector

RECORD = "/var/lib/foobar-lab/created.json"
"""`OriginalPath` by path, for each owned directory and for the owned files (under ``files``)."""

UCF = "/var/lib/ucf/registry"
"""Configuration files that a package's scripts manage (ucf(1)): package and path per line."""

UCF_DIGESTS = "/var/lib/ucf/hashfile"
"""MD5 and path per line, of the versions that the packages brought."""

CONTENT_CHANGED = "content was changed"

UNIT_SUFFIXES = (".service", ".socket", ".timer", ".path", ".mount", ".target", ".slice")
PACKAGE = OriginalPath("package")

Record = dict[str, dict[str, OriginalPath]]


@dataclass(frozen=True)
class OwnedFacts:
    """The difference of an owned directory, or of owned files, from what is expected.

    Args:
        recorded: whether the original content is recorded.
        foreign: paths that no resource declares.
        changed: paths that were there at first and have been changed or removed, with how.
    """

    recorded: bool
    foreign: tuple[str, ...] = ()
    changed: tuple[tuple[str, str], ...] = ()


def owned_probe(
    directory: str,
    patterns: Sequence[str],
    declared: Sequence[str],
    *,
    directories: bool = False,
) -> Probe[OwnedFacts]:
    """The difference of a directory; ``declared`` are paths or patterns of paths in it.

    Args:
        directories: see `present`.
    """
    lists = {"patterns": list(patterns), "declared": list(declared)}
    args = {"key": directory, **lists, "directories": directories}
    return Probe("owned", f"owned {directory}", args, OwnedFacts)


def owned_files_probe(patterns: Sequence[str]) -> Probe[OwnedFacts]:
    """The difference of single files, as patterns of absolute paths; ``~`` is a user's home."""
    args = {"key": "files", "patterns": list(patterns), "declared": []}
    return Probe("owned", "owned files", args, OwnedFacts)


def load_record() -> Record:
    """What was there at first; empty when nothing is recorded."""
    try:
        data = json.loads(read_text(RECORD))
    except (OSError, ValueError, AgentError):
        return {}
    return {
        key: {path: decode(OriginalPath, entry) for path, entry in entries.items()}
        for key, entries in data.items()
    }


def present(
    key: str, patterns: Sequence[str], declared: Sequence[str], *, directories: bool = False
) -> list[str]:
    """Files and links of an owned directory, or the owned files, without declared ones.

    Args:
        directories: count, too: the program that reads the files fails at a directory.
    """
    if key == "files":
        paths = {os.path.expanduser(path) for pattern in patterns for path in _expand(pattern)}
    else:
        base = glob.escape(key)
        paths = {path for pattern in patterns for path in glob.glob(f"{base}/{pattern}")}
    return sorted(
        path
        for path in paths
        if directories or not is_real_directory(path)
        if not any(fnmatch.fnmatchcase(path, pattern) for pattern in declared)
    )


def _expand(pattern: str) -> list[str]:
    path = os.path.expanduser(pattern)
    return glob.glob(path) if glob.has_magic(path) else [path]


@batch_collector("owned")
def collect_owned(batch: Sequence[Args]) -> list[OwnedFacts | Exception]:
    """See `owned_probe`; packages are asked once, about what is in no record."""
    record = load_record()
    present_paths = [
        present(
            args["key"],
            args["patterns"],
            args["declared"],
            directories=args.get("directories", False),
        )
        for args in batch
    ]
    unknown = [
        path
        for args, paths in zip(batch, present_paths, strict=True)
        if args["key"] in record and args["key"] != "files"
        for path in paths
        if path not in record[args["key"]]
    ]
    packaged = owned_by_packages(unknown)
    return [
        without_packaged(
            compare(args["key"], record[args["key"]], paths, packaged, args["declared"]),
            record[args["key"]],
        )
        if args["key"] in record
        else OwnedFacts(False)
        for args, paths in zip(batch, present_paths, strict=True)
    ]


def compare(
    key: str,
    entries: Mapping[str, OriginalPath],
    paths: Sequence[str],
    packaged: set[str],
    declared: Sequence[str],
) -> OwnedFacts:
    """The difference between the record and the present files."""
    foreign = tuple(path for path in paths if path not in entries and path not in packaged)
    changed = []
    for path, entry in entries.items():
        hidden = any(fnmatch.fnmatchcase(path, pattern) for pattern in declared)
        if entry.type not in ("file", "link", "absent") or hidden:
            continue
        try:
            present_now = original(path)
        except (OSError, AgentError) as error:  # it is too large, or vanishes
            changed.append((path, f"is not readable: {error}"))
            continue
        if how := _difference(entry, present_now):
            changed.append((path, how))
    return OwnedFacts(True, foreign if key != "files" else (), tuple(changed))


def without_packaged(facts: OwnedFacts, entries: Mapping[str, OriginalPath]) -> OwnedFacts:
    """The difference without files that a package has brought or upgraded since the record."""
    if not facts.changed:
        return facts
    from provision.engine.agent.package_files import md5

    added = owned_by_packages([p for p, _ in facts.changed if entries[p].type == "absent"])
    rewritten = [path for path, how in facts.changed if how == CONTENT_CHANGED]
    digests = _packaged_digests() if rewritten else {}
    upgraded = {path for path in rewritten if path in digests and md5(path) == digests[path]}
    kept = ((path, how) for path, how in facts.changed if path not in added | upgraded)
    return replace(facts, changed=tuple(kept))


def _packaged_digests() -> dict[str, str]:
    """MD5 by path of the configuration files that packages or ucf(1) brought."""
    from provision.engine.agent.package_files import conffile_digests

    digests = {path: md5 for own in conffile_digests().values() for path, md5 in own.items()}
    with contextlib.suppress(OSError, AgentError):
        rows = (line.split() for line in read_text(UCF_DIGESTS).splitlines())
        digests |= {row[1]: row[0] for row in rows if len(row) == 2}
    return digests


def _difference(before: OriginalPath, after: OriginalPath) -> str:
    if before.type != after.type:
        return "is missing" if after.type == "absent" else f"is now: {after.type}"
    if before.type == "absent":
        return ""
    if before.type == "link":
        return "" if before.target == after.target else f"links to {after.target}"
    if before.content != after.content:
        return CONTENT_CHANGED
    if (before.mode, before.uid, before.gid) != (after.mode, after.uid, after.gid):
        return f"mode is {after.mode:04o}, owner {after.uid}:{after.gid}"
    return ""


def owned_by_packages(paths: Sequence[str]) -> set[str]:
    """Those that a Debian package owns or manages, or that link to such a file."""
    if not paths:
        return set()
    targets = {path: os.path.realpath(path) if os.path.islink(path) else path for path in paths}
    asked = sorted({form for target in targets.values() for form in _forms(target)})
    rows = run(["dpkg-query", "--search", *asked]).stdout.splitlines()
    owned = {row.split(": ", 1)[1] for row in rows if ": " in row}
    with contextlib.suppress(OSError, AgentError):
        owned |= {line.split()[-1] for line in read_text(UCF).splitlines() if line.strip()}
    return {path for path, target in targets.items() if owned.intersection(_forms(target))}


def _forms(path: str) -> tuple[str, ...]:
    """A path, also without ``/usr`` as packages from before the merge have it."""
    return (path, path.removeprefix("/usr")) if path.startswith("/usr/lib") else (path,)


@action("owned")
def restore_owned(args: Args, journal: Journal, log: Log) -> None:
    """Remove ``foreign`` files, restore ``changed`` ones; record what was there at first.

    Args:
        args: ``key``, ``patterns``, ``declared``, ``record``, ``foreign``, ``changed``.
    """
    if args["record"]:
        record_present(args["key"], args["patterns"], args["declared"])
    entries = load_record().get(args["key"], {})
    for path in args["foreign"]:
        log(f"removing {shown(path)}")
        remove_foreign(path, journal)
    for path in args["changed"]:
        log(f"restoring {path}")
        journal.keep(path)
        journal.copies.keep(path)
        if entries[path].type == "absent":
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        else:
            journal.make_parents(path)
            restore(path, entries[path])
    if args["changed"] or args["foreign"]:
        run(["systemctl", "daemon-reload"])
    if timers := overridden_timers(args["foreign"]):
        run(["systemctl", "try-restart", *timers])


def overridden_timers(paths: Sequence[str]) -> list[str]:
    """The timers of drop-ins: after daemon-reload, one that has elapsed would not elapse again."""
    folders = (os.path.basename(os.path.dirname(path)) for path in paths)
    return sorted({name.removesuffix(".d") for name in folders if name.endswith(".timer.d")})


def record_present(key: str, patterns: Sequence[str], declared: Sequence[str]) -> None:
    """Record the present files of a directory, unless they are recorded."""
    record = load_record()
    if key in record:
        return
    paths = present(key, patterns, declared)
    packaged = owned_by_packages(paths) if key != "files" else set()
    record[key] = {path: PACKAGE if path in packaged else _recordable(path) for path in paths}
    os.makedirs(os.path.dirname(RECORD), exist_ok=True)
    write_atomically(RECORD, json.dumps(encode(record)).encode(), 0o600)


def _recordable(path: str) -> OriginalPath:
    try:
        return original(path)
    except (OSError, AgentError):  # too large to be restored
        return OriginalPath("large")


def remove_foreign(path: str, journal: Journal) -> None:
    """Remove a file; a systemd unit is stopped and disabled first."""
    name = os.path.basename(path)
    if name.endswith(UNIT_SUFFIXES) and path.startswith("/etc/systemd/system/"):
        run(["systemctl", "disable", "--now", name], timeout=120)
        run(["systemctl", "reset-failed", name])
    journal.keep(path)
    journal.copies.keep(path)
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
