"""Frozen dataclasses as JSON and back: the form of every value between controller and machine."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")

DECODERS: dict[Any, Callable[[Any], Any]] = {}
"""By type."""


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
    try:
        value: T = decoder(kind)(data)
    except ProtocolError as error:
        raise ProtocolError(f"{kind.__name__}{error}") from None
    return value


def decoder(kind: Any) -> Callable[[Any], Any]:
    """A function that decodes values of a type; types are inspected once, values often.

    The function raises `ProtocolError` with the path below the value, such as ``.items[0] is int``.
    """
    if kind not in DECODERS:
        DECODERS[kind] = _new_decoder(kind)
    return DECODERS[kind]


def _new_decoder(kind: Any) -> Callable[[Any], Any]:
    if kind is Any:
        return lambda data: data
    if is_dataclass(kind):
        return _fields_decoder(kind)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        (present,) = (decoder(item) for item in inner if item is not types.NoneType)
        return lambda data: None if data is None else present(data)
    if origin is tuple:
        return _tuple_decoder(inner)
    if origin in (dict, Mapping):
        return _mapping_decoder(inner[1])
    return _simple_decoder(kind)


def _simple_decoder(kind: Any) -> Callable[[Any], Any]:
    is_path = hasattr(kind, "__fspath__")

    def decode_simple(data: Any) -> Any:
        if type(data) is kind:
            return data
        if kind is float and type(data) is int:
            return float(data)
        if is_path and isinstance(data, str):
            return kind(data)
        raise _unexpected(data, getattr(kind, "__name__", kind))

    return decode_simple


def _tuple_decoder(kinds: tuple[Any, ...]) -> Callable[[Any], Any]:
    repeated = kinds[-1] is Ellipsis
    decoders = [decoder(item) for item in kinds if item is not Ellipsis]

    def decode_tuple(data: Any) -> Any:
        if not isinstance(data, list | tuple):
            raise _unexpected(data, "a list")
        each = decoders * len(data) if repeated else decoders
        if len(each) != len(data):
            raise ProtocolError(f": {len(data)} values instead of {len(each)}")
        return tuple(
            _inside(f"[{number}]", decode_item, item)
            for number, (decode_item, item) in enumerate(zip(each, data, strict=True))
        )

    return decode_tuple


def _mapping_decoder(inner: Any) -> Callable[[Any], Any]:
    decode_item = decoder(inner)

    def decode_mapping(data: Any) -> Any:
        if not isinstance(data, Mapping):
            raise _unexpected(data, "an object")
        return {key: _inside(f"[{key}]", decode_item, item) for key, item in data.items()}

    return decode_mapping


def _fields_decoder(kind: Any) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    decoders = {item.name: decoder(hints[item.name]) for item in fields(kind)}
    required = [
        item.name
        for item in fields(kind)
        if item.default is MISSING and item.default_factory is MISSING
    ]

    def decode_fields(data: Any) -> Any:
        if not isinstance(data, Mapping):
            raise _unexpected(data, "an object")
        for name in data:
            if name not in decoders:
                raise ProtocolError(f": unknown field {name!r}")
        for name in required:
            if name not in data:
                raise ProtocolError(f": field {name!r} is missing")
        return kind(**{name: _inside(f".{name}", decoders[name], data[name]) for name in data})

    return decode_fields


def _inside(where: str, decode_item: Callable[[Any], Any], data: Any) -> Any:
    """A decoded part of a value; an error names where it is."""
    try:
        return decode_item(data)
    except ProtocolError as error:
        raise ProtocolError(f"{where}{error}") from None


def _unexpected(data: Any, expected: Any) -> ProtocolError:
    return ProtocolError(f" is {type(data).__name__}, not {expected}")
