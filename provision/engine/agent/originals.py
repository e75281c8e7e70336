"""On the machine: what was there before the lab came, and bringing that back.

Only machines that exist without the lab need it. The record is made before the first change and
grows with what later runs are about to touch; it is removed last, so that a clean-up that was cut
off goes on from where it was.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pwd
import re
import stat
from typing import Any

from provision.engine.agent.core import ACTIONS, PROBES, Failed, Job, Say, must, run
from provision.engine.agent.files import Journal, place_file

HOME = "/var/lib/foobar-lab"
RECORD = f"{HOME}/originals.json"
UNITS = "/etc/systemd/system/"
STRICT = [
    "-o",
    "APT::AutoRemove::RecommendsImportant=0",
    "-o",
    "APT::AutoRemove::SuggestsImportant=0",
]
"""What is merely recommended by something is no reason to stay (apt-get(8), autoremove)."""

NAME = r"(?:^|[|])\s*([a-z0-9][a-z0-9+.-]*)"
"""Package names in one relation such as ``libc6 (>= 2.34) | a:any``."""


def load() -> dict[str, Any]:
    """The record; without one, a new one of what is there now."""
    try:
        with open(RECORD) as file:
            record: dict[str, Any] = json.load(file)
            return record
    except FileNotFoundError:
        return {"packages": installed(), "active": active(), "paths": {}, "users": {}}


def save(record: dict[str, Any]) -> None:
    """Write the record; it may hold what others must not read."""
    os.makedirs(HOME, exist_ok=True)
    place_file(RECORD, json.dumps(record).encode(), 0, 0, 0o600)


def installed() -> dict[str, str]:
    """Installed packages and their versions."""
    form = "${Package}\t${db:Status-Status}\t${Version}\n"
    lines = [line.split("\t") for line in run(["dpkg-query", "-W", "-f", form]).out.splitlines()]
    return {name: version for name, status, version in lines if status == "installed"}


def depends() -> dict[str, list[set[str]]]:
    """By installed package, what it depends on (deb-control(5)): a set of alternatives each."""
    form = "${Package}\t${db:Status-Status}\t${Provides}\t${Pre-Depends}, ${Depends}\n"
    wants: dict[str, list[set[str]]] = {}
    provided: dict[str, set[str]] = {}
    for line in run(["dpkg-query", "-W", "-f", form]).out.splitlines():
        package, status, provides, relations = line.split("\t")
        if status == "installed":
            groups = [set(re.findall(NAME, one)) for one in relations.split(",")]
            wants.setdefault(package, []).extend(group for group in groups if group)
            for one in provides.split(","):
                for name in re.findall(NAME, one):
                    provided.setdefault(name, set()).add(package)
    for found in wants.values():
        for group in found:
            group |= {real for name in list(group) for real in provided.get(name, ())}
    return wants


def needed(packages: set[str], wants: dict[str, list[set[str]]]) -> set[str]:
    """These packages, and what they need that none of them is: all installed alternatives of it."""
    found: set[str] = set()
    waiting = list(packages)
    while waiting:
        package = waiting.pop()
        if package not in found:
            found.add(package)
            for group in wants.get(package, []):
                if not group & packages:
                    waiting += group & wants.keys()
    return found


def active() -> list[str]:
    """Services that run."""
    argv = ["systemctl", "list-units", "--type=service", "--state=active", "--plain", "--no-legend"]
    return [line.split()[0] for line in run(argv).out.splitlines() if line.strip()]


def original(path: str) -> dict[str, Any]:
    """What is at a path, whole; for nothing, the highest folder that is missing on the way."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {"type": "absent", "missing": missing(path)}
    kept = {"uid": status.st_uid, "gid": status.st_gid, "mode": stat.S_IMODE(status.st_mode)}
    if stat.S_ISLNK(status.st_mode):
        return {"type": "link", "target": os.readlink(path)}
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            return {"type": "file", "content": base64.b64encode(file.read()).decode(), **kept}
    return {"type": "directory" if stat.S_ISDIR(status.st_mode) else "special", **kept}


def missing(path: str) -> str:
    """The highest part of a path that does not exist."""
    above = os.path.dirname(path)
    return path if os.path.lexists(above) or above == path else missing(above)


def remember(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Keep what is at ``paths`` and which of ``users`` exist, unless that is kept already."""
    record = load()
    paths = {path: original(path) for path in args["paths"] if path not in record["paths"]}
    known = {entry.pw_name for entry in pwd.getpwall()}
    users = {name: name in known for name in args["users"] if name not in record["users"]}
    if paths or users or not os.path.exists(RECORD):
        record["paths"].update(paths)
        record["users"].update(users)
        save(record)


def plan_probe(each: list[dict[str, Any]]) -> Job:
    """What a clean-up would do: ``packages`` are the names that the lab installs."""
    yield
    return [plan(one["packages"]) for one in each]


def plan(names: list[str]) -> dict[str, Any]:
    """The difference between the record and what is there now."""
    if not os.path.exists(RECORD):
        return {"known": False}
    record, now = load(), installed()
    before: dict[str, str] = record["packages"]
    wants = depends()
    kept = needed(set(before), wants)
    wanted = sorted(name for name in names if name in now and name not in kept)
    purge: list[str] = []
    if wanted:
        # What they brought along goes too; what was there before, and what that needs, never does,
        # nor does anything that somebody else has installed meanwhile.
        done = must(["apt-get", "-s", "-q", *STRICT, "purge", "--autoremove", *wanted], timeout=120)
        going = set(re.findall(r"^(?:Purg|Remv) (\S+)", done.out, re.MULTILINE))
        purge = sorted(going & needed(set(wanted), wants) - kept)
    remove = sorted(
        {
            entry["missing"]
            for entry in record["paths"].values()
            if entry["type"] == "absent" and os.path.lexists(entry["missing"])
        }
    )
    restore = sorted(
        path
        for path, entry in record["paths"].items()
        if entry["type"] in ("file", "link") and original(path) != entry
    )
    known = {entry.pw_name for entry in pwd.getpwall()}
    return {
        "known": True,
        "purge": purge,
        "stay": sorted(f"{n} {now[n]}" for n in kept if n in now and now[n] != before.get(n)),
        "remove": remove,
        "restore": restore,
        "users": sorted(n for n, there in record["users"].items() if not there and n in known),
    }


def clean(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Do what `plan` says; ``packages`` as there."""
    todo = plan(args["packages"])
    if not todo["known"]:
        raise Failed("nothing is recorded of what was here before the lab")
    record = load()
    gone = [path for path in todo["remove"] if path.startswith(UNITS)]
    ours = [os.path.basename(path) for path in gone if path.count("/") == UNITS.count("/")]
    ours = [name for name in ours if name.endswith((".service", ".socket", ".timer", ".path"))]
    if ours:
        say("stopping the lab's services")
        run(["systemctl", "disable", "--now", *ours], timeout=120)
    if todo["purge"]:
        say(f"removing {len(todo['purge'])} packages")
        _purge(todo["purge"], record["packages"])
    say("putting files back")
    for path in todo["remove"]:
        if os.path.lexists(path):
            must(["rm", "-rf", "--one-file-system", "--", path])
    for path in todo["restore"]:
        entry = record["paths"][path]
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if entry["type"] == "link":
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            os.symlink(entry["target"], path)
        else:
            content = base64.b64decode(entry["content"])
            place_file(path, content, entry["uid"], entry["gid"], entry["mode"])
    for name in todo["users"]:
        must(["userdel", name])
    run(["find", UNITS, "-type", "d", "-name", "*.wants", "-empty", "-delete"])
    run(["systemctl", "daemon-reload"])
    run(["systemctl", "reset-failed"])
    for service in sorted(set(record["active"]) & set(args["services"])):
        run(["systemctl", "restart", service], timeout=120)
    must(["rm", "-rf", "--one-file-system", "--", HOME])


def _purge(names: list[str], before: dict[str, str]) -> None:
    """Purge packages; refused when something that was there before would go with them."""
    out = must(["apt-get", "-s", "-q", "purge", *names], timeout=120).out
    lost = sorted(set(re.findall(r"^(?:Purg|Remv) (\S+)", out, re.MULTILINE)) & set(before))
    if lost:
        raise Failed(f"{', '.join(lost)} were here before and would go with the lab's packages")
    must(["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120", "purge", *names], timeout=900)


PROBES["originals"] = plan_probe
ACTIONS.update(remember=remember, clean=clean)
