"""Complete a machine's units: nothing foreign overrides what they declare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from provision.engine.plan import Resource, Unit
from provision.engine.resources.files import Absent, File
from provision.engine.resources.ownership import EffectiveUnit, OwnedDirectory
from provision.engine.resources.system import Packages

UNIT_FILES = "/etc/systemd/system"


def with_ownership(units: Sequence[Unit], *, exclusive: bool = True) -> tuple[Unit, ...]:
    """The units with what follows from all of them together.

    Owned directories and packages learn the declared paths; each unit whose service loads its
    files is preceded by a comparison of what systemd has loaded of that service.

    Args:
        exclusive: False for a machine of somebody else, whose own files, drop-ins and changes of
            packages' configuration files stay.
    """
    paths = declared_paths(units)
    absent = tuple(
        str(resource.probe().args["path"])
        for unit in units
        for resource in unit.resources
        if isinstance(resource, Absent) and "path" in resource.probe().args
    )
    passive = {
        resource.path
        for unit in units
        for resource in unit.resources
        if isinstance(resource, File) and resource.passive
    }
    services = tuple(unit.service for unit in units if unit.restartable)
    completed = tuple(_complete(unit, paths, absent, passive, services) for unit in units)
    return completed if exclusive else tuple(map(_shared, completed))


def declared_paths(units: Sequence[Unit]) -> tuple[str, ...]:
    """The paths on the machine that resources declare to exist."""
    probes = (
        resource.probe()
        for unit in units
        for resource in unit.resources
        if not isinstance(resource, Absent)
    )
    return tuple(dict.fromkeys(str(p.args["path"]) for p in probes if "path" in p.args))


def _complete(
    unit: Unit,
    paths: Sequence[str],
    absent: Sequence[str],
    passive: set[str],
    services: Sequence[str],
) -> Unit:
    resources: list[Resource[Any]] = [
        _with_declared(resource, paths, absent, services) for resource in unit.resources
    ]
    if not unit.restartable:
        return replace(unit, resources=tuple(resources))
    own = tuple(path for path in paths if _belongs_to(path, unit.service))
    return replace(
        unit,
        resources=(EffectiveUnit(unit.service, own), *resources),
        passive=tuple(path for path in own if path in passive),
    )


def _shared(unit: Unit) -> Unit:
    """A unit that leaves alone what its machine's owner has added and changed."""
    resources = (
        replace(resource, conffiles=False) if isinstance(resource, Packages) else resource
        for resource in unit.resources
        if not isinstance(resource, EffectiveUnit | OwnedDirectory)
    )
    return replace(unit, resources=tuple(resources))


def _belongs_to(path: str, service: str) -> bool:
    return path == f"{UNIT_FILES}/{service}" or path.startswith(f"{UNIT_FILES}/{service}.d/")


def _with_declared(
    resource: Resource[Any], paths: Sequence[str], absent: Sequence[str], services: Sequence[str]
) -> Resource[Any]:
    if isinstance(resource, Packages):
        return replace(resource, configured=tuple(paths))
    if not isinstance(resource, OwnedDirectory):
        return resource
    # A path that another resource removes is that resource's difference alone.
    declared = [path for path in (*paths, *absent) if path.startswith(f"{resource.path}/")]
    if resource.path == UNIT_FILES:  # `EffectiveUnit` judges these
        for service in services:
            declared += [f"{UNIT_FILES}/{service}", f"{UNIT_FILES}/{service}.d/*"]
    return replace(resource, declared=tuple(dict.fromkeys(declared)))
