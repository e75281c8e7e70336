"""Validate values against the subset of JSON Schema (2020-12) that the files in schemas/ use.

A keyword that is not implemented here is an error, so that no constraint is skipped silently.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain
from typing import Any

from provision.core.lab import ROOT

FOLDER = ROOT / "schemas"

ANNOTATIONS = {"$schema", "$id", "$defs", "title", "description"}

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}

Schema = dict[str, Any]


@cache
def load(kind: str) -> Schema:
    """The schema of a command's document."""
    schema: Schema = json.loads((FOLDER / f"{kind}.json").read_text(encoding="utf-8"))
    return schema


def document(text: str) -> dict[str, Any]:
    """The one document in a command's output, validated against the schema of its kind.

    Raises:
        AssertionError: when the text is not exactly one JSON document, or is invalid.
    """
    try:
        value: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise AssertionError(f"not exactly one JSON document ({error}):\n{text}") from None
    errors = list(validate(value, load(value["kind"])))
    assert not errors, "\n".join(errors)
    return value


def validate(
    value: Any, schema: Schema, root: Schema | None = None, path: str = "$"
) -> Iterator[str]:
    """One line per violation."""
    root = schema if root is None else root
    for keyword in schema.keys() - ANNOTATIONS:
        if keyword not in KEYWORDS:
            raise NotImplementedError(f"JSON Schema keyword {keyword!r}")
        yield from KEYWORDS[keyword](value, schema, root, path)


def _reference(value: Any, schema: Schema, root: Schema, path: str) -> Iterator[str]:
    yield from validate(value, _definition(root, schema["$ref"]), root, path)


def _type(value: Any, schema: Schema, root: Schema, path: str) -> Iterator[str]:
    names = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if not any(_is(value, name) for name in names):
        yield f"{path}: {value!r} is not of type {' or '.join(names)}"


def _const(value: Any, schema: Schema, root: Schema, path: str) -> Iterator[str]:
    expected = schema["const"]
    if type(value) is not type(expected) or value != expected:
        yield f"{path}: {value!r} is not {expected!r}"


def _enum(value: Any, schema: Schema, root: Schema, path: str) -> Iterator[str]:
    if value not in schema["enum"]:
        yield f"{path}: {value!r} is not one of {schema['enum']}"


def _any_of(value: Any, schema: Schema, root: Schema, path: str) -> Iterator[str]:
    reasons = [list(validate(value, part, root, path)) for part in schema["anyOf"]]
    if all(reasons):
        yield f"{path}: matches nothing of anyOf: {'; '.join(chain.from_iterable(reasons))}"


def _items(value: Any, schema: Schema, root: Schema, path: str) -> Iterator[str]:
    for index, item in enumerate(value if isinstance(value, list) else ()):
        yield from validate(item, schema["items"], root, f"{path}[{index}]")


def _required(value: Any, schema: Schema, root: Schema, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f"{path}: {n!r} is missing" for n in schema["required"] if n not in value)


def _pattern(value: Any, schema: Schema, root: Schema, path: str) -> Iterator[str]:
    if isinstance(value, str) and not re.search(schema["pattern"], value):
        yield f"{path}: {value!r} does not match {schema['pattern']!r}"


def _minimum(value: Any, schema: Schema, root: Schema, path: str) -> Iterator[str]:
    if _is(value, "number") and value < schema["minimum"]:
        yield f"{path}: {value!r} is less than {schema['minimum']}"


def _maximum(value: Any, schema: Schema, root: Schema, path: str) -> Iterator[str]:
    if _is(value, "number") and value > schema["maximum"]:
        yield f"{path}: {value!r} is more than {schema['maximum']}"


def _min_items(value: Any, schema: Schema, root: Schema, path: str) -> Iterator[str]:
    if isinstance(value, list) and len(value) < schema["minItems"]:
        yield f"{path}: has {len(value)} items, fewer than {schema['minItems']}"


def _max_items(value: Any, schema: Schema, root: Schema, path: str) -> Iterator[str]:
    if isinstance(value, list) and len(value) > schema["maxItems"]:
        yield f"{path}: has {len(value)} items, more than {schema['maxItems']}"


def _properties(value: Any, schema: Schema, root: Schema, path: str) -> Iterator[str]:
    known = schema["properties"]
    for name in known.keys() & value.keys() if isinstance(value, dict) else ():
        yield from validate(value[name], known[name], root, f"{path}.{name}")


def _additional(value: Any, schema: Schema, root: Schema, path: str) -> Iterator[str]:
    others = schema["additionalProperties"]
    known = schema.get("properties", {})
    for name in value.keys() - known.keys() if isinstance(value, dict) else ():
        if others is False:
            yield f"{path}: {name!r} is not expected"
        else:
            yield from validate(value[name], others, root, f"{path}.{name}")


def _if(value: Any, schema: Schema, root: Schema, path: str) -> Iterator[str]:
    if not list(validate(value, schema["if"], root, path)):
        yield from validate(value, schema["then"], root, path)


KEYWORDS: dict[str, Callable[[Any, Schema, Schema, str], Iterator[str]]] = {
    "$ref": _reference,
    "type": _type,
    "const": _const,
    "enum": _enum,
    "anyOf": _any_of,
    "items": _items,
    "pattern": _pattern,
    "minimum": _minimum,
    "maximum": _maximum,
    "minItems": _min_items,
    "maxItems": _max_items,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "if": _if,
    "then": lambda *_: iter(()),
}


def _definition(root: Schema, reference: str) -> Schema:
    definition: Schema = root["$defs"][reference.removeprefix("#/$defs/")]
    return definition


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, TYPES[name])
