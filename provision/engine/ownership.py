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


def with_ownership(units: Sequence[Unit]) -> tuple[Unit, ...]:
    """The units with what follows from all of them together.

    Owned directories and packages learn the declared paths; each unit whose service loads its
    files is preceded by a comparison of what systemd has loaded of that service.
    """
    paths = declared_paths(units)
    passive = {
        resource.path
        for unit in units
        for resource in unit.resources
        if isinstance(resource, File) and resource.passive
    }
    services = tuple(unit.service for unit in units if unit.restartable)
    return tuple(_complete(unit, paths, passive, services) for unit in units)


def declared_paths(units: Sequence[Unit]) -> tuple[str, ...]:
    """The paths on the machine that resources declare to exist."""
    probes = (
        resource.probe()
        for unit in units
        for resource in unit.resources
        if not isinstance(resource, Absent)
    )
    return tuple(dict.fromkeys(str(p.args["path"]) for p in probes if "path" in p.args))


def _complete(unit: Unit, paths: Sequence[str], passive: set[str], services: Sequence[str]) -> Unit:
    resources: list[Resource[Any]] = [
        _with_declared(resource, paths, services) for resource in unit.resources
    ]
    if not unit.restartable:
        return replace(unit, resources=tuple(resources))
    own = tuple(path for path in paths if _belongs_to(path, unit.service))
    return replace(
        unit,
        resources=(EffectiveUnit(unit.service, own), *resources),
        passive=tuple(path for path in own if path in passive),
    )


def _belongs_to(path: str, service: str) -> bool:
    return path == f"{UNIT_FILES}/{service}" or path.startswith(f"{UNIT_FILES}/{service}.d/")


def _with_declared(
    resource: Resource[Any], paths: Sequence[str], services: Sequence[str]
) -> Resource[Any]:
    if isinstance(resource, Packages):
        return replace(resource, configured=tuple(paths))
    if not isinstance(resource, OwnedDirectory):
        return resource
    declared = [path for path in paths if path.startswith(f"{resource.path}/")]
    if resource.path == UNIT_FILES:  # `EffectiveUnit` judges these
        for service in services:
            declared += [f"{UNIT_FILES}/{service}", f"{UNIT_FILES}/{service}.d/*"]
    return replace(resource, declared=tuple(dict.fromkeys(declared)))
