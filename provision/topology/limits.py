"""Parse ``limits:`` of a topology or a class file."""

from __future__ import annotations

from provision.core.limits import RANGES, Limits
from provision.topology.checker import Checker
from provision.topology.nodes import Node

EXAMPLE = "'{memory: 2048, processes: 1000, disk: 4096, cpu: 100}'"


def parse_limits(check: Checker, node: Node, where: str) -> Limits:
    """The valid limits of a mapping."""
    values: dict[str, int] = {}
    if check.mapping(node, where, EXAMPLE):
        for name, _, value in check.keys(node, where, tuple(RANGES)):
            low, high, unit = RANGES[name]
            number = check.integer(value, f"{where}.{name}", (low, high), unit)
            if number is not None:
                values[name] = number
    return Limits(**values)
