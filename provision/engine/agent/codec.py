"""Frozen dataclasses as JSON and back: the form of every value between controller and machine."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


class ProtocolError(ValueError):
    """A value that is not what the type says."""


def encode(value: Any) -> Any:
    """A value of dataclasses, mappings and sequences as what ``json.dumps`` takes."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: encode(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if hasattr(value, "__fspath__"):
        return value.__fspath__()
    return value


def decode(kind: type[T], data: Any) -> T:
    """A frozen dataclass from JSON; the inverse of `encode`.

    Raises:
        ProtocolError: which field is missing, unknown or of another type.
    """
    value: T = _decode(kind, data, kind.__name__)
    return value


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _decode(kind: Any, data: Any, where: str) -> Any:
    if kind is Any:
        return data
    if is_dataclass(kind):
        return _decode_fields(kind, data, where)
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (item for item in typing.get_args(kind) if item is not types.NoneType)
        return None if data is None else _decode(inner, data, where)
    if origin is tuple and isinstance(data, list | tuple):
        return _decode_tuple(typing.get_args(kind), data, where)
    if origin in (dict, Mapping) and isinstance(data, Mapping):
        inner = typing.get_args(kind)[1]
        return {key: _decode(inner, item, f"{where}[{key}]") for key, item in data.items()}
    if kind is float and type(data) is int:
        return float(data)
    if hasattr(kind, "__fspath__") and isinstance(data, str):
        return kind(data)
    if type(data) is not kind:
        name = getattr(kind, "__name__", kind)
        raise ProtocolError(f"{where} is {type(data).__name__}, not {name}")
    return data


def _decode_tuple(kinds: tuple[Any, ...], data: Sequence[Any], where: str) -> tuple[Any, ...]:
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(data)
    if len(kinds) != len(data):
        raise ProtocolError(f"{where}: {len(data)} values instead of {len(kinds)}")
    items = enumerate(zip(kinds, data, strict=True))
    return tuple(_decode(kind, item, f"{where}[{number}]") for number, (kind, item) in items)


def _decode_fields(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, Mapping):
        raise ProtocolError(f"{where} is {type(data).__name__}, not an object")
    declared = {item.name: item for item in fields(kind)}
    for name in data:
        if name not in declared:
            raise ProtocolError(f"{where}: unknown field {name!r}")
    values = {}
    for name, item in declared.items():
        if name in data:
            values[name] = _decode(_hints(kind)[name], data[name], f"{where}.{name}")
        elif item.default is MISSING and item.default_factory is MISSING:
            raise ProtocolError(f"{where}: field {name!r} is missing")
    return kind(**values)
