"""The roles that a machine can have, discovered from the files that declare them.

A role of its own in ``provision/services`` is a folder with ``role.py``. The file system is read
instead of importing the modules, so that reading a topology does not load every service.
"""

from __future__ import annotations

from functools import cache

from provision.core.lab import ROOT

OTHER_PACKAGES = {
    "mysql": "provision.database.role",
    "exporters": "provision.monitoring.exporters",
    "monitoring": "provision.monitoring.role",
}
"""Roles whose module is not ``provision.services.<role>.role``."""


@cache
def role_modules() -> dict[str, str]:
    """The dotted module that declares each role, by the role's name."""
    folders = (path.parent.name for path in (ROOT / "provision/services").glob("*/role.py"))
    modules = {name: f"provision.services.{name}.role" for name in folders} | OTHER_PACKAGES
    return dict(sorted(modules.items()))


def role_names() -> tuple[str, ...]:
    """The names that ``roles:`` of a topology accepts, sorted."""
    return tuple(role_modules())
