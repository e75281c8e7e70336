"""Prepare a deployment on all machines: files, wheels and virtual environments.

Nothing that a running process reads is changed, so that a failure costs no request.
"""

from __future__ import annotations

from dataclasses import replace

from provision.core.errors import LabError, UsageError
from provision.core.report import Report
from provision.engine.apply import apply_unit, inspect_unit
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.services.app import releases, wheels
from provision.services.app import role as app
from provision.services.app.agent.virtualenv import PythonPlatform, platform_probe
from provision.services.app.virtualenv import REQUIREMENTS

ATTEMPTS = 20
"""Downloads of single wheels that a machine's Python needs and the controller's does not."""


def require_same_files(context: Context, fleet: Fleet) -> None:
    """Refuse to replace the files of the recorded release, which is running.

    Raises:
        UsageError: when a machine has different files under its version.
    """
    version = releases.current(context)
    tree = app.tree(context)

    def digest(host: Host) -> str:
        probe = tree.probe()
        return host.gather([probe])[probe].digest

    names = [machine.name for machine in context.lab.with_role("app")]
    for name, present in fleet.each(digest, names).items():
        if present not in ("", tree.digest):
            raise UsageError(
                f"{name} has different files under version {version}",
                "give the release a new version, in its VERSION file or with --version; if the "
                "files were changed by mistake, invoke lab.up restores them",
            )


def unpack(context: Context, fleet: Fleet, report: Report) -> None:
    """Unpack a release on every application server, with its virtual environment.

    Raises:
        LabError: when a wheel is missing, or a machine cannot unpack or install it.
    """
    names = [machine.name for machine in context.lab.with_role("app")]
    folder, version = app.release_folder(context), context.state.release
    platform = None
    if any(path == REQUIREMENTS for path, _, _ in app.release_files(folder)):
        platform = common_platform(fleet, names)
        target = wheels.folder(context.lab.directory, version)
        if not wheels.wheels(context.lab.directory, version):
            report("host", f"downloading the wheels of {REQUIREMENTS}")
            wheels.download(folder, target, platform)
    for name in names:
        report(name, f"unpacking {version}")
    first, *others = names
    _unpack_first(context, fleet.host(first), platform, report)
    fleet.each(lambda host: _unpack(context, host), others)


def _unpack_first(
    context: Context, host: Host, platform: PythonPlatform | None, report: Report
) -> None:
    """Unpack on one machine, whose pip may name wheels that only its Python needs."""
    folder, version = app.release_folder(context), context.state.release
    target = wheels.folder(context.lab.directory, version)
    tried: set[str] = set()
    while True:
        try:
            _unpack(context, host)
            return
        except LabError as error:
            missing = wheels.missing_package(error)
            if platform is None or not missing or missing in tried or len(tried) >= ATTEMPTS:
                raise
        tried.add(missing)
        report("host", f"downloading {missing}")
        wheels.download(folder, target, platform, [missing])


def _unpack(context: Context, host: Host) -> None:
    machine = context.lab.machine(host.name)
    # A new context: the wheels may have changed since the units were made.
    desired = replace(context).desired(machine)
    unit = next(unit for unit in desired if unit.name == "release")
    apply_unit(host, inspect_unit(host, unit), hint="")


def common_platform(fleet: Fleet, names: list[str]) -> PythonPlatform:
    """The platform of all application servers.

    Raises:
        LabError: when they differ, so that one set of wheels does not fit them.
    """
    probe = platform_probe()
    platforms = fleet.each(lambda host: host.gather([probe])[probe], names)
    if len(set(platforms.values())) > 1:
        listed = ", ".join(f"{n}: Python {p.version}, {p.machine}" for n, p in platforms.items())
        raise LabError(f"{REQUIREMENTS} needs the same Python on all application servers: {listed}")
    return next(iter(platforms.values()))
