"""`app.*`: deploy, roll back and list releases of the guest book."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from provision.commands import show
from provision.commands.base import Session, console, open_session, show_json, task
from provision.commands.progress import Progress
from provision.database.failover.control import adopt
from provision.operations import deploy as ops
from provision.services.app import releases as stored


@task(
    positional=["path"],
    help={
        "path": "a directory like provision/app (default: a known --version, or the bundled app)",
        "version": "name of the release (default: its VERSION file)",
    },
)
def deploy(c: Any, path: str = "", version: str = "", lab: str = "") -> None:
    """Deploy a release, one server at a time."""
    session = open_session(lab)
    with session.lock():
        source = stored.source(session.context, path, version)
        _deploy(session, stored.store(session.context, source, version), migrate=True)


@task(help={"version": "a release (default: the previous one)"})
def rollback(c: Any, version: str = "", lab: str = "") -> None:
    """Roll back to an earlier release; keep the schema."""
    session = open_session(lab)
    with session.lock():
        _deploy(session, stored.rollback_version(session.context, version), migrate=False)


def _deploy(session: Session, version: str, *, migrate: bool) -> None:
    before = stored.current(session.context)
    with session.fleet() as fleet, Progress() as report:
        ops.deploy(adopt(session.context, fleet), fleet, version, report, migrate=migrate)
    print(f"{version} runs on every server" + (f" (before: {before})" if before != version else ""))


@task(help={"json": "print JSON"})
def releases(c: Any, lab: str = "", json: bool = False) -> None:
    """List releases and the servers that run them."""
    session = open_session(lab)
    with session.fleet() as fleet:
        releases = ops.list_releases(session.context, fleet)
    if json:
        show_json([asdict(release) for release in releases])
        return
    rows = [
        [r.version, "current" if r.current else "", ", ".join(r.machines) or "no server"]
        for r in releases
    ]
    show.grid(console(), ["VERSION", "", "RUNS ON"], rows)
