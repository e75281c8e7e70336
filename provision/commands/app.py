"""`app.*`: releases of the guest book: roll one out, go back, see what runs where."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from provision.commands import show
from provision.commands.base import Session, console, session, show_json, task
from provision.commands.progress import Progress
from provision.database.failover.control import adopt
from provision.services.app import deploy as ops
from provision.services.app import releases as kept


@task(
    positional=["path"],
    help={
        "path": "a folder like provision/app; without it a version that was deployed before, "
        "or the one that comes with the lab",
        "version": "what to call it, instead of what its VERSION file says",
    },
)
def deploy(c: Any, path: str = "", version: str = "", lab: str = "") -> None:
    """Roll a release out, one server at a time, without losing a request."""
    now = session(lab)
    with now.lock():
        source = kept.source(now.context, path, version)
        _roll(now, kept.take(now.context, source, version), migrate=True)


@task(help={"version": "which one; without it the one before"})
def rollback(c: Any, version: str = "", lab: str = "") -> None:
    """Go back to an earlier release, one server at a time; the schema stays as it is."""
    now = session(lab)
    with now.lock():
        _roll(now, kept.known(now.context, version), migrate=False)


def _roll(now: Session, version: str, *, migrate: bool) -> None:
    before = kept.current(now.context)
    with now.fleet() as fleet, Progress() as report:
        ops.deploy(adopt(now.context, fleet), fleet, version, report, migrate=migrate)
    print(f"{version} runs on every server" + (f", after {before}" if before != version else ""))


@task(help={"json": "for programs"})
def releases(c: Any, lab: str = "", json: bool = False) -> None:
    """List the releases that were deployed, and what runs where."""
    now = session(lab)
    with now.fleet() as fleet:
        found = ops.find(now.context, fleet)
    if json:
        show_json([asdict(release) for release in found])
        return
    rows = [
        [r.version, "current" if r.current else "", ", ".join(r.machines) or "nowhere"]
        for r in found
    ]
    show.grid(console(), ["VERSION", "", "RUNS ON"], rows)
