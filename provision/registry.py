"""Every role, found by folder: the one module that imports services."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from provision.core.lab import ROOT, Lab
from provision.core.roles import role_modules
from provision.core.state import State
from provision.engine.context import Context
from provision.engine.role import Role


@cache
def roles() -> tuple[Role, ...]:
    """All roles in ascending order.

    Roles that a topology names are the constant ``ROLE`` of the modules that
    `provision.core.roles` finds. Roles that apply under other conditions are in the constant
    ``ROLES`` of modules called ``feature``.
    """
    roles: list[Role] = [import_module(module).ROLE for module in role_modules().values()]
    for path in sorted((ROOT / "provision").glob("*/*/feature.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        roles += import_module(module).ROLES
    return tuple(sorted(roles, key=lambda role: (role.order, role.name)))


def context(lab: Lab, state: State, *, rolling: bool = False) -> Context:
    """What the roles' declarations for a lab depend on."""
    return Context(lab, state, roles(), rolling)
