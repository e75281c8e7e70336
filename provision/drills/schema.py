"""Validate YAML nodes against the JSON Schema of drills; every error names file, line and key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from provision.core.lab import ROOT
from provision.core.suggestions import listed
from provision.topology.checker import Checker, describe
from provision.topology.nodes import Node

FILE = ROOT / "schemas" / "drill.schema.json"

Schema = Mapping[str, Any]

KINDS = {"object": "mapping", "array": "list", "number": "integer"}
"""What JSON Schema calls differently than YAML."""


@cache
def drill_schema() -> Schema:
    """The published schema of a drill's front matter."""
    schema: Schema = json.loads(FILE.read_text(encoding="utf-8"))
    return schema


def validate(check: Checker, node: Node, schema: Schema, where: str = "") -> None:
    """Report everything in a node that the schema does not allow."""
    schema = _resolved(schema)
    if "anyOf" in schema:
        branches = [_resolved(branch) for branch in schema["anyOf"]]
        schema = next((b for b in branches if node.kind in _kinds(b)), branches[0])
    kinds = _kinds(schema)
    if node.kind not in kinds and not (node.kind == "float" and "number" in _types(schema)):
        expected = " or ".join(dict.fromkeys(_article(kind) for kind in kinds))
        check.error(node.line, where, f"invalid value {describe(node)}; expected {expected}")
    elif node.kind == "mapping":
        _mapping(check, node, schema, where)
    elif node.kind == "list":
        _list(check, node, schema, where)
    elif node.kind == "integer":
        _integer(check, node, schema, where)
    elif node.kind == "string":
        _string(check, node, schema, where)


def plain(node: Node) -> Any:
    """The value of a node as Python objects."""
    if node.kind == "mapping":
        return {key.text: plain(value) for key, value in node.entries}
    if node.kind == "list":
        return [plain(item) for item in node.items]
    if node.kind == "integer":
        return int(node.text)
    if node.kind == "float":
        return float(node.text)
    if node.kind == "boolean":
        return node.text.lower() in ("true", "yes", "on")
    return node.text


def lines(node: Node, where: str = "") -> dict[str, int]:
    """The line of every value by the path of its key, such as ``break[0].run``."""
    result = {where: node.line}
    for key, value in node.entries:
        result |= lines(value, f"{where}.{key.text}" if where else key.text)
        result[f"{where}.{key.text}" if where else key.text] = key.line
    for number, item in enumerate(node.items):
        result |= lines(item, f"{where}[{number}]")
    return result


def _resolved(schema: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    name = schema["$ref"].removeprefix("#/$defs/")
    return _resolved({**drill_schema()["$defs"][name], **_without_reference(schema)})


def _without_reference(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key != "$ref"}


def _types(schema: Schema) -> list[str]:
    if "const" in schema:
        return ["boolean"]
    declared = schema.get("type", "string")
    return [declared] if isinstance(declared, str) else list(declared)


def _kinds(schema: Schema) -> list[str]:
    return [KINDS.get(name, name) for name in _types(schema)]


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _mapping(check: Checker, node: Node, schema: Schema, where: str) -> None:
    known: Mapping[str, Schema] = schema.get("properties", {})
    others = schema.get("additionalProperties")
    allowed = None if isinstance(others, dict) else list(known)
    entries = check.keys(node, where, allowed)
    for name, _, value in entries:
        place = f"{where}.{name}" if where else name
        validate(check, value, known.get(name) or others or {}, place)
    present = {name for name, _, _ in entries}
    missing = [name for name in schema.get("required", ()) if name not in present]
    if missing:
        check.error(node.line, where, f"missing key{'s' * (len(missing) > 1)} {listed(missing)}")


def _list(check: Checker, node: Node, schema: Schema, where: str) -> None:
    low, high = schema.get("minItems", 0), schema.get("maxItems", len(node.items))
    if not low <= len(node.items) <= high:
        expected = f"exactly {low}" if low == schema.get("maxItems") else f"at least {low}"
        check.error(node.line, where, f"{len(node.items)} items; expected {expected}")
    for number, item in enumerate(node.items):
        validate(check, item, schema.get("items", {}), f"{where}[{number}]")


def _integer(check: Checker, node: Node, schema: Schema, where: str) -> None:
    if "minimum" in schema:
        check.integer(node, where, (schema["minimum"], schema["maximum"]))


def _string(check: Checker, node: Node, schema: Schema, where: str) -> None:
    if "enum" in schema:
        check.choice(node, where, schema["enum"], "value")
    elif not node.text.strip():
        check.error(node.line, where, "is empty")
    elif "pattern" in schema and not re.search(schema["pattern"], node.text):
        check.error(
            node.line, where, f"invalid value {node.text!r}; expected {schema['description']}"
        )
