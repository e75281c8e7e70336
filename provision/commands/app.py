"""`app.*`: deploy, roll back and list releases of the guest book."""

from __future__ import annotations

from typing import Any

from provision.commands import show
from provision.commands.base import Session, console, open_session, publish, task
from provision.commands.progress import Progress
from provision.commands.results import site as results
from provision.database.failover.control import adopt
from provision.operations import deploy as ops
from provision.services.app import releases as stored


@task(
    result=results.Deployed,
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


@task(result=results.Deployed, help={"version": "a release (default: the previous one)"})
def rollback(c: Any, version: str = "", lab: str = "") -> None:
    """Roll back to an earlier release; keep the schema."""
    session = open_session(lab)
    with session.lock():
        _deploy(session, stored.rollback_version(session.context, version), migrate=False)


def _deploy(session: Session, version: str, *, migrate: bool) -> None:
    before = stored.current(session.context)
    with session.fleet() as fleet, Progress() as report:
        ops.deploy(adopt(session.context, fleet), fleet, version, report, migrate=migrate)
    publish(results.Deployed(release=version, before=before))
    print(f"{version} runs on every server" + (f" (before: {before})" if before != version else ""))


@task(result=results.Releases)
def releases(c: Any, lab: str = "") -> None:
    """List releases and the servers that run them."""
    session = open_session(lab)
    with session.fleet() as fleet:
        releases = ops.list_releases(session.context, fleet)
    values = [
        results.ReleaseValues(release=r.version, current=r.current, machines=list(r.machines))
        for r in releases
    ]
    if publish(results.Releases(releases=values)):
        return
    rows = [
        [r.version, "current" if r.current else "", ", ".join(r.machines) or "no server"]
        for r in releases
    ]
    show.grid(console(), ["VERSION", "", "RUNS ON"], rows)
