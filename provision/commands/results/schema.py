"""JSON Schema (2020-12) of the document that a command prints, from its `TypedDict`."""

from __future__ import annotations

import types
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from provision.commands.results.envelope import SCHEMA_VERSION, Envelope, ErrorValues

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_NAMES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}

Schema = dict[str, Any]


def document(kind: str, data: Any) -> Schema:
    """The schema of a command's document.

    Args:
        kind: the command, such as ``lab.status``.
        data: the `TypedDict` of its values; None when there never are any.
    """
    definitions: dict[str, Schema] = {}
    envelope = _object(Envelope, definitions)
    properties = envelope["properties"]
    properties["schema_version"] = {"const": SCHEMA_VERSION}
    properties["kind"] |= {"const": kind}
    text = properties["data"]["description"]
    if data is None:
        properties["data"] = {"type": "null", "description": text}
        properties["error"] = of(ErrorValues, definitions)
    else:
        values = of(data, definitions)
        properties["data"] = {"anyOf": [values, {"type": "null"}], "description": text}
        succeeded = {"properties": {"error": {"type": "null"}}}
        envelope |= {"if": succeeded, "then": {"properties": {"data": {"type": "object"}}}}
    head = {"$schema": DIALECT, "$id": f"{kind}.json", "title": f"invoke {kind} --json"}
    return head | envelope | {"$defs": dict(sorted(definitions.items()))}


def of(kind: Any, definitions: dict[str, Schema]) -> Schema:
    """The schema of one type; objects are added to the definitions and referred to.

    Raises:
        TypeError: for a type that JSON output does not use.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return of(arguments[0], definitions) | {"description": arguments[1]}
    if origin is NotRequired:
        return of(arguments[0], definitions)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is list:
        return {"type": "array", "items": of(arguments[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": of(arguments[1], definitions)}
    if origin in (Union, types.UnionType):
        parts = [of(part, definitions) for part in arguments]
        if all(isinstance(part.get("type"), str) for part in parts):
            return {"type": [part["type"] for part in parts]}
        return {"anyOf": parts}
    if is_typeddict(kind):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}  # before its values, which may refer to it
            definitions[kind.__name__] = _object(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if kind is Any:
        return {}
    if kind not in _NAMES:
        raise TypeError(f"no JSON Schema for {kind!r}")
    return {"type": _NAMES[kind]}


def _object(kind: Any, definitions: dict[str, Schema]) -> Schema:
    hints = get_type_hints(kind, include_extras=True)
    return {
        "description": (kind.__doc__ or "").strip(),
        "type": "object",
        "properties": {name: of(hint, definitions) for name, hint in hints.items()},
        "required": [name for name, hint in hints.items() if get_origin(hint) is not NotRequired],
        "additionalProperties": False,
    }
