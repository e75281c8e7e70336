"""Validate values against the subset of JSON Schema (2020-12) that the files in schemas/ use.

A keyword that is not implemented here is an error, so that no constraint is skipped silently.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
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
    for keyword, argument in schema.items():
        if keyword in ANNOTATIONS or keyword == "then":
            continue
        if keyword == "$ref":
            yield from validate(value, _definition(root, argument), root, path)
        elif keyword == "type":
            names = [argument] if isinstance(argument, str) else argument
            if not any(_is(value, name) for name in names):
                yield f"{path}: {value!r} is not of type {' or '.join(names)}"
        elif keyword == "const":
            if type(value) is not type(argument) or value != argument:
                yield f"{path}: {value!r} is not {argument!r}"
        elif keyword == "enum":
            if value not in argument:
                yield f"{path}: {value!r} is not one of {argument}"
        elif keyword == "anyOf":
            if all(list(validate(value, part, root, path)) for part in argument):
                reasons = [line for part in argument for line in validate(value, part, root, path)]
                yield f"{path}: matches nothing of anyOf: {'; '.join(reasons)}"
        elif keyword == "items":
            for index, item in enumerate(value if isinstance(value, list) else ()):
                yield from validate(item, argument, root, f"{path}[{index}]")
        elif keyword == "required":
            if isinstance(value, dict):
                yield from (f"{path}: {n!r} is missing" for n in argument if n not in value)
        elif keyword == "properties":
            if isinstance(value, dict):
                for name in argument.keys() & value.keys():
                    yield from validate(value[name], argument[name], root, f"{path}.{name}")
        elif keyword == "additionalProperties":
            if isinstance(value, dict):
                for name in value.keys() - schema.get("properties", {}).keys():
                    if argument is False:
                        yield f"{path}: {name!r} is not expected"
                    elif argument is not True:
                        yield from validate(value[name], argument, root, f"{path}.{name}")
        elif keyword == "if":
            if not list(validate(value, argument, root, path)):
                yield from validate(value, schema["then"], root, path)
        else:
            raise NotImplementedError(f"JSON Schema keyword {keyword!r}")


def _definition(root: Schema, reference: str) -> Schema:
    definition: Schema = root["$defs"][reference.removeprefix("#/$defs/")]
    return definition


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, TYPES[name])
