"""Deploy a release of the application, one server at a time, without losing a request.

A server is drained at run time only, and the release is recorded when every server runs it. After
a crash of the controller in between, the next lab.up restores the recorded release and rotation.
"""

from __future__ import annotations

import json
from dataclasses import replace

from provision.core.errors import LabError, UsageError
from provision.core.growth import RELEASES_KEPT
from provision.core.lab import Machine
from provision.core.report import Report
from provision.engine.agent.http import HttpResponse, http_probe
from provision.engine.agent.protocol import HttpRequest, Probe
from provision.engine.apply import apply_unit, inspect_unit
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.engine.plan import Unit
from provision.engine.resources import Tree
from provision.services.app import releases
from provision.services.app import role as app
from provision.services.app.releases import Release
from provision.services.haproxy.drained import DrainTimeout, drained, put_back

KEPT = RELEASES_KEPT
"""Releases that stay on a machine, the current one among them."""

READY_SECONDS = 10.0
"""Until a server responds with its new release."""


def deploy(
    context: Context, fleet: Fleet, version: str, report: Report, *, migrate: bool = True
) -> None:
    """Deploy a release server by server; record it when all of them run it.

    Args:
        version: of a release that `releases.store` has stored.
        migrate: whether the release's pending migrations run first.

    Raises:
        UsageError: when a machine has different files under that version.
        LabError: when a migration fails (no server was updated then), or a server does not become
            ready. It and the servers before it are rolled back; nothing is recorded.
    """
    before = releases.current(context)
    machines = context.lab.with_role("app")
    hosts = [fleet.host(machine.name) for machine in machines]
    if not app.stored_release(context, before).is_dir():
        releases.store(context, app.release_folder(context))
    after = replace(context, state=replace(context.state, release=version))
    _require_same_files(after, fleet)
    if migrate:
        _migrate(after, fleet, report)
    updated: list[Machine] = []
    for machine in machines:
        try:
            _update(after, fleet, machine, report)
        except LabError as error:
            touched = updated if isinstance(error, DrainTimeout) else [*updated, machine]
            failures = _roll_back(context, fleet, touched, report)
            raise LabError(
                f"{version} does not become ready on {machine.name}: {error}\n"
                + (failures or f"every server runs {before} again; nothing was recorded"),
                "invoke lab.up rolls back the others"
                if failures
                else "fix the release, and deploy it under a new version",
            ) from None
        updated.append(machine)
    releases.record_deployment(context, version)
    for host in hosts:
        _prune(host, releases.history(after), version)
    releases.prune(after)


def _roll_back(context: Context, fleet: Fleet, machines: list[Machine], report: Report) -> str:
    """Deploy the recorded release again, the failed server first; returns what failed."""
    version = releases.current(context)
    failures = []
    for machine in reversed(machines):
        report(machine.name, f"rolling back to {version}")
        try:
            _update(context, fleet, machine, report)
        except LabError as error:
            failures.append(f"{machine.name}: rolling back to {version} failed: {error.what}")
    return "\n".join(failures)


# --- steps ---------------------------------------------------------------------------------------


def _units(context: Context, machine: Machine) -> dict[str, Unit]:
    return {unit.name: unit for unit in app.units(context, machine)}


def _apply(host: Host, unit: Unit) -> None:
    apply_unit(host, inspect_unit(host, unit), hint="")


def _require_same_files(context: Context, fleet: Fleet) -> None:
    """Refuse to replace the files of a release that may be running.

    Raises:
        UsageError: when a machine has different files under this version.
    """
    folder = app.release_folder(context)
    tree = Tree(f"{app.HOME}/releases/{context.state.release}", app.release_files(folder))

    def digest(host: Host) -> str:
        probe = tree.probe()
        return host.gather([probe])[probe].digest

    names = [machine.name for machine in context.lab.with_role("app")]
    for name, present in fleet.each(digest, names).items():
        if present not in ("", tree.digest):
            raise UsageError(
                f"{name} has different files under version {context.state.release}",
                "give the release a new version, in its VERSION file or with --version; if the "
                "files were changed by mistake, invoke lab.up restores them",
            )


def _migrate(context: Context, fleet: Fleet, report: Report) -> None:
    """Run the release's pending migrations on the primary, before any server is updated.

    Raises:
        LabError: when one fails.
    """
    primary = context.primary
    units = _units(context, primary)
    report(primary.name, "checking for migrations")
    host = fleet.host(primary.name)
    try:
        _apply(host, units["release"])
        _apply(host, units["schema"])
    except LabError as error:
        raise LabError(
            f"{error.what}\nno server was updated, and nothing was recorded",
            "fix the migration, and deploy the release under a new version",
            output=error.output,
        ) from None


def _update(context: Context, fleet: Fleet, machine: Machine, report: Report) -> None:
    """Bring one server to the release: unpack, drain, switch, verify, put back into rotation."""
    host = fleet.host(machine.name)
    version = releases.current(context)
    units = _units(context, machine)
    report(machine.name, f"unpacking {version}")
    _apply(host, units["release"])
    if inspect_unit(host, units["app"]).empty:
        verify_release(context, host, version)
        put_back(context, fleet, machine, report)
    else:
        with drained(context, fleet, machine, report):
            report(machine.name, f"switching to {version}")
            _apply(host, units["app"])
            report(machine.name, "verifying the release")
            verify_release(context, host, version)
    report(machine.name, f"serves {version}")


def verify_release(context: Context, host: Host, version: str) -> None:
    """Check health and version of one server, through its own web server if it has one.

    Raises:
        LabError: when it is unhealthy or runs another version.
    """
    machine = context.lab.machine(host.name)

    def probe(path: str) -> Probe[HttpResponse]:
        if "nginx" in machine.roles:
            request = HttpRequest(path, address="127.0.0.1")
        else:
            request = app.local_request(context, machine, path)
        request = replace(request, host=context.lab.site)
        return http_probe(path, request, until=200, deadline=READY_SECONDS)

    probes = [probe("/healthz"), probe("/version")]
    results = host.gather(probes)
    health, response = (results[probe] for probe in probes)
    if health.status != 200:
        raise LabError(
            f"{host.name}: /healthz responds with {health.status or health.error}",
            output=health.body,
        )
    for source, value in (
        ("the version in /version", _version(response)),
        ("X-App-Version", response.headers.get("x-app-version", "")),
    ):
        if value != version:
            raise LabError(f"{host.name}: {source} is {value!r}, not {version!r}")


def _version(response: HttpResponse) -> str:
    try:
        return str(json.loads(response.body)["version"])
    except (ValueError, KeyError, TypeError):
        return ""


# --- releases on the machines --------------------------------------------------------------------


def superfluous(present: list[str], history: list[str], current: str) -> list[str]:
    """The releases to remove from a machine, so that the last `KEPT` deployed ones remain.

    Args:
        present: versions on the machine, the one unpacked last at the end.
        history: versions in the order in which they were deployed.
        current: the running one.
    """
    never_deployed = [version for version in present if version not in history]
    deployed = [version for version in history if version in present and version != current]
    candidates = [*never_deployed, *deployed]
    return candidates[: max(0, len(candidates) - (KEPT - 1))]


def _prune(host: Host, history: list[str], current: str) -> None:
    present = host.run("ls", "-1tr", f"{app.HOME}/releases").stdout.split()
    complete = [name for name in present if ".lab-" not in name]
    old = [f"{app.HOME}/releases/{name}" for name in superfluous(complete, history, current)]
    if old:
        host.run("rm", "-rf", "--", *old)


def list_releases(context: Context, fleet: Fleet) -> tuple[Release, ...]:
    """All stored or running releases, those that were deployed last at the end."""

    def running_version(host: Host) -> str:
        request = app.local_request(context, context.lab.machine(host.name), "/version")
        probe = http_probe("/version", request)
        return _version(host.gather([probe])[probe])

    names = [m.name for m in context.lab.with_role("app") if m.name in fleet.hosts]
    running = fleet.each(running_version, names)
    history = releases.history(context)
    position = {version: i for i, version in enumerate(history)}
    versions = (releases.stored_versions(context) | set(running.values())) - {""}
    return tuple(
        Release(
            version,
            version == history[-1],
            tuple(name for name, runs in running.items() if runs == version),
        )
        for version in sorted(versions, key=lambda version: (position.get(version, -1), version))
    )
