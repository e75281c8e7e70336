"""Deploy a release of the application, one server at a time, without losing a request.

A server is drained at run time only, and the release is recorded when every server runs it. After
a crash of the controller in between, the next lab.up restores the recorded release and rotation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from provision.core.errors import LabError
from provision.core.exit_status import ExitStatus
from provision.core.lab import Machine
from provision.core.report import Report
from provision.database import role as mysql
from provision.engine.apply import apply_unit, inspect, inspect_unit
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.engine.plan import Unit
from provision.operations import preparation
from provision.operations.machine_releases import prune, remove_release
from provision.operations.verification import running_version, verify_release
from provision.services.app import releases
from provision.services.app import role as app
from provision.services.app.interface import application, record_database, uses_database
from provision.services.app.releases import Release
from provision.services.haproxy.drained import DrainTimeout, drained, put_back
from provision.services.nginx import role as nginx

NOTHING_CHANGED = "no server was updated, and nothing was recorded"


@dataclass
class Rollout:
    """How far a deployment is, for a rollback.

    Args:
        context: with the recorded release.
        changing: whether health checks of the two releases differ.
        touched: the application servers that may run the new release.
        fronts: whether the web servers on machines of their own were changed.
        balancers: whether the balancers were changed.
    """

    context: Context
    fleet: Fleet
    report: Report
    changing: bool = False
    touched: list[Machine] = field(default_factory=list)
    fronts: bool = False
    balancers: bool = False


def deploy(
    context: Context, fleet: Fleet, version: str, report: Report, *, migrate: bool = True
) -> None:
    """Deploy a release server by server; record it when all of them run it.

    Args:
        version: of a release that `releases.store` has stored.
        migrate: whether the guest book's pending migrations run first.

    Raises:
        UsageError: when a machine has different files under that version.
        LabError: when a preparation fails (no server was updated then), or a server does not become
            ready. It and the servers before it are rolled back; nothing is recorded, and nothing
            remains of a release that was never deployed.
    """
    before = releases.current(context)
    for machine in context.lab.machines:
        if {"app", "nginx"} & set(machine.roles):
            fleet.host(machine.name)  # a stopped machine is an error before the first change
    if not app.stored_release(context, before).is_dir():
        releases.store(
            context, app.release_folder(context), before, releases.application_of(context, before)
        )
    after = replace(context, state=replace(context.state, release=version))
    changing = application(context).health != application(after).health
    rollout = Rollout(context, fleet, report, changing)
    with _undone_on_failure(rollout, version):
        _prepare(after, fleet, report, before, migrate=migrate)
        if changing:
            _change_fronts(context, rollout, changing=True)
        for machine in context.lab.with_role("app"):
            rollout.touched.append(machine)
            _update(after, rollout, machine)
        _change_fronts(after, rollout)
        _change_balancers(after, rollout)
    releases.record_deployment(context, version)
    for machine in _with_releases(context):
        if machine.name in fleet.hosts:
            prune(fleet.host(machine.name), releases.history(after), version)
    releases.prune(after)


# --- failure -------------------------------------------------------------------------------------


@contextmanager
def _undone_on_failure(rollout: Rollout, version: str) -> Iterator[None]:
    """Bring every server back to the recorded release after an error or an interruption."""
    try:
        yield
    except BaseException as error:
        failed = rollout.touched[-1] if rollout.touched else None
        if isinstance(error, DrainTimeout):
            rollout.touched.pop()
        failures = _roll_back(rollout)
        if not failures:
            _forget(rollout, version)
        if not isinstance(error, LabError) or failed is None:
            raise
        before = releases.current(rollout.context)
        raise LabError(
            f"{version} does not become ready on {failed.name}: {error.what}\n"
            + (failures or f"every server runs {before} again; nothing was recorded"),
            "invoke lab.up rolls back the others"
            if failures
            else error.hint or "fix the release, and deploy it again",
            output=error.output,
        ) from None


def _roll_back(rollout: Rollout) -> str:
    """Deploy the recorded release again, the failed server first; returns what failed."""
    context = rollout.context

    def report(machine: str, message: str) -> None:
        with suppress(OSError):  # the terminal or pipe may be what has failed
            rollout.report(machine, message)

    version = releases.current(context)
    failures = []
    for machine in reversed(rollout.touched):
        report(machine.name, f"rolling back to {version}")
        try:
            _update(context, replace(rollout, report=report), machine)
        except LabError as error:
            failures.append(f"{machine.name}: rolling back to {version} failed: {error.what}")
    try:
        if rollout.fronts:
            _change_fronts(context, replace(rollout, report=report))
        if rollout.balancers:
            _change_balancers(context, replace(rollout, report=report))
    except LabError as error:
        failures.append(f"rolling back to {version} failed: {error.what}")
    return "\n".join(failures)


def _forget(rollout: Rollout, version: str) -> None:
    """Remove what remains of a release that was never deployed: here, and on the machines."""
    if releases.is_taken(rollout.context, version):
        return
    for machine in _with_releases(rollout.context):
        if machine.name in rollout.fleet.hosts:
            try:
                remove_release(rollout.fleet.host(machine.name), version)
            except LabError as error:  # the next deployment replaces it
                rollout.report(machine.name, f"{version} could not be removed: {error.what}")
    releases.discard(rollout.context, version)


# --- steps ---------------------------------------------------------------------------------------


def _with_releases(context: Context) -> tuple[Machine, ...]:
    """The machines on which releases are unpacked; databases need the migrations."""
    return tuple(
        machine
        for machine in context.lab.machines
        if {"app", "nginx", "mysql"} & set(machine.roles)
    )


def _fronts(context: Context) -> tuple[Machine, ...]:
    """The web servers in front of application servers on other machines."""
    return tuple(m for m in context.lab.with_role("nginx") if "app" not in m.roles)


def _units(context: Context, machine: Machine) -> dict[str, Unit]:
    """The units of a machine by name, as ``lab.up`` applies them."""
    return {unit.name: unit for unit in context.desired(machine)}


def _apply(host: Host, unit: Unit) -> None:
    apply_unit(host, inspect_unit(host, unit), hint="")


def _prepare(context: Context, fleet: Fleet, report: Report, before: str, *, migrate: bool) -> None:
    """Everything that can fail before a server is updated.

    Args:
        before: the version that the servers run.

    Raises:
        LabError: when it does; no server was updated.
    """
    try:
        if context.state.release == before:
            preparation.require_same_files(context, fleet)
        preparation.unpack(context, fleet, report)
        _unpack_migrations(context, fleet)
        if application(context).database and not uses_database_already(context):
            _create_schema(context, fleet, report)
        if uses_database(context):
            _start_proxies(context, fleet, report)
        if migrate and application(context).is_guest_book:
            _migrate(context, fleet, report)
    except LabError as error:
        if error.status == ExitStatus.USAGE:
            raise
        raise LabError(
            f"{error.what}\n{NOTHING_CHANGED}",
            error.hint or "fix the release, and deploy it again",
            output=error.output,
        ) from None


def uses_database_already(context: Context) -> bool:
    """Whether the lab has a schema for applications of the user's own, whatever this one needs."""
    return uses_database(replace(context, state=replace(context.state, release="")))


def _create_schema(context: Context, fleet: Fleet, report: Report) -> None:
    """Create schema and account on the primary, which replicas receive from it."""
    primary = context.primary
    report(primary.name, "creating the application's schema")
    _apply(fleet.host(primary.name), mysql.accounts_unit(context, primary))
    record_database(context)


def _unpack_migrations(context: Context, fleet: Fleet) -> None:
    """Unpack the release on database servers of their own: any of them can become the primary."""
    for machine in context.lab.with_role("mysql"):
        release = _units(context, machine).get("release")
        if "app" not in machine.roles and release and machine.name in fleet.hosts:
            _apply(fleet.host(machine.name), release)


def _start_proxies(context: Context, fleet: Fleet, report: Report) -> None:
    """Start the database proxy on every application server, or bring it to the current state."""
    for machine in context.lab.with_role("app"):
        for unit in app.proxies(context, machine):
            report(machine.name, "starting the database proxy")
            _apply(fleet.host(machine.name), unit)


def _migrate(context: Context, fleet: Fleet, report: Report) -> None:
    """Run the release's pending migrations on the primary, before any server is updated."""
    primary = context.primary
    units = _units(context, primary)
    report(primary.name, "checking for migrations")
    host = fleet.host(primary.name)
    _apply(host, units["release"])
    _apply(host, units["schema"])


def _update(context: Context, rollout: Rollout, machine: Machine) -> None:
    """Bring one server to the release: unpack, drain, switch, verify, put back into rotation."""
    fleet, report = rollout.fleet, rollout.report
    host = fleet.host(machine.name)
    version = releases.current(context)
    units = _units(context, machine)
    report(machine.name, f"unpacking {version}")
    _apply(host, units["release"])
    switched = [units[name] for name in ("app", "nginx") if name in machine.roles]
    if all(plan.empty for plan in inspect(host, switched)):
        verify_release(context, host, version)
        put_back(context, fleet, machine, report)
    else:
        with drained(context, fleet, machine, report):
            report(machine.name, f"switching to {version}")
            if rollout.changing and "nginx" in machine.roles:
                _apply(host, nginx.while_changing(context, machine, units["nginx"]))
            for unit in switched:
                _apply(host, unit)
            report(machine.name, "verifying the release")
            verify_release(context, host, version)
    report(machine.name, f"serves {version}")


def _change_fronts(context: Context, rollout: Rollout, *, changing: bool = False) -> None:
    """Static files and configuration of the web servers on machines of their own.

    Args:
        changing: only let Nginx answer health checks itself, until the next call.
    """
    for machine in _fronts(context):
        rollout.fronts = True
        rollout.report(machine.name, "reloading Nginx for the release")
        units, host = _units(context, machine), rollout.fleet.host(machine.name)
        if changing:
            _apply(host, nginx.while_changing(context, machine, units["nginx"]))
        else:
            _apply(host, units["release"])
            _apply(host, units["nginx"])


def _change_balancers(context: Context, rollout: Rollout) -> None:
    """How many requests each server gets, where the releases differ in that."""
    if application(context).slots == application(rollout.context).slots and not rollout.balancers:
        return
    rollout.balancers = True
    for machine in context.lab.with_role("haproxy"):
        rollout.report(machine.name, "reloading HAProxy for the release")
        _apply(rollout.fleet.host(machine.name), _units(context, machine)["haproxy"])


def list_releases(context: Context, fleet: Fleet) -> tuple[Release, ...]:
    """All deployed or running releases, those that were deployed last at the end."""
    names = [m.name for m in context.lab.with_role("app") if m.name in fleet.hosts]
    running = fleet.each(running_version, names)
    history = releases.history(context)
    position = {version: i for i, version in enumerate(history)}
    versions = (releases.deployed_versions(context) | set(running.values())) - {""}
    return tuple(
        Release(
            version,
            version == history[-1],
            tuple(name for name, runs in running.items() if runs == version),
            releases.application_of(context, version).wsgi or "guest book",
        )
        for version in sorted(versions, key=lambda version: (position.get(version, -1), version))
    )
