"""Check the types of single values in a topology file; collect every error with its line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from provision.core.suggestions import closest, listed, unknown
from provision.topology.nodes import Node

Entry = tuple[str, Node, Node]
"""A key's text, its node, and the node of its value."""


class Checker:
    """Checks values; a method returns None (or an empty value) after it has reported an error.

    Args:
        file: the name of the file in messages.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._errors: list[tuple[int, str]] = []

    @property
    def errors(self) -> list[str]:
        """All messages, in the order of their lines."""
        return [message for _, message in sorted(self._errors, key=lambda error: error[0])]

    def error(self, line: int, where: str, what: str) -> None:
        """Report an error.

        Args:
            where: the path of the key, such as ``machines.web-01.roles``.
        """
        place = f"{where}: " if where else ""
        self._errors.append((line, f"{self.file}:{line}: {place}{what}"))

    def invalid(self, node: Node, where: str, expected: str) -> None:
        """Report an invalid value."""
        self.error(node.line, where, f"invalid value {describe(node)}; expected {expected}")

    def keys(
        self,
        node: Node,
        where: str,
        allowed: Sequence[str] | None = None,
        special: Mapping[str, str] | None = None,
    ) -> list[Entry]:
        """The entries of a mapping, under the closest allowed keys.

        The value of a duplicate or misspelt key is returned too, so that its errors are reported.

        Args:
            allowed: None if every string is allowed.
            special: messages for unknown keys that deserve their own.
        """
        present = {key.text for key, _ in node.entries}
        entries: list[Entry] = []
        first: dict[str, int] = {}
        for key, value in node.entries:
            place = f"{where}.{key.text}" if where else key.text
            if key.kind != "string":
                self.error(key.line, where, f"key {describe(key)} is not a string; quote it")
            elif key.text in first:
                self.error(key.line, place, f"duplicate key (first on line {first[key.text]})")
                entries.append((key.text, key, value))
            elif special and key.text in special:
                self.error(key.line, place, special[key.text])
            elif allowed is not None and key.text not in allowed:
                match = closest(key.text, allowed)
                self.error(key.line, place, unknown("key", key.text, allowed))
                if match and match not in present:
                    entries.append((match, key, value))
            else:
                first[key.text] = key.line
                entries.append((key.text, key, value))
        return entries

    def string(self, node: Node, where: str, example: str) -> str | None:
        """A string that is not blank."""
        if node.kind == "string" and node.text.strip():
            return node.text
        self.invalid(node, where, f"a string such as {example}")
        return None

    def integer(
        self, node: Node, where: str, limits: tuple[int, int], unit: str = ""
    ) -> int | None:
        """A decimal integer within limits, both included."""
        low, high = limits
        expected = f"an integer from {low} to {high}{unit and ' ' + unit}"
        if node.kind == "integer" and re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", node.text):
            value = int(node.text)
            if low <= value <= high:
                return value
            self.error(node.line, where, f"invalid value {value}; expected {expected}")
        else:
            self.invalid(node, where, expected)
        return None

    def choice(self, node: Node, where: str, choices: Sequence[str], noun: str) -> str | None:
        """One of several keywords."""
        if node.kind == "string" and node.text in choices:
            return node.text
        if node.text:
            self.error(node.line, where, unknown(noun, node.text, choices))
        else:
            self.invalid(node, where, f"one of {listed(choices)}")
        return None

    def boolean(self, node: Node, where: str) -> bool:
        """True or false; false after an error."""
        if node.kind != "boolean":
            self.invalid(node, where, "true or false")
        return node.text.lower() in ("true", "yes", "on")

    def mapping(self, node: Node, where: str, example: str) -> bool:
        """Whether the node is a mapping that is not empty."""
        if node.kind == "mapping" and node.entries:
            return True
        self.invalid(node, where, f"a mapping such as {example}")
        return False

    def list(self, node: Node, where: str, example: str) -> bool:
        """Whether the node is a list that is not empty."""
        if node.kind == "list" and node.items:
            return True
        self.invalid(node, where, f"a list such as {example}")
        return False


def describe(node: Node) -> str:
    """A value and its type, for messages."""
    if node.kind == "string":
        return repr(node.text)
    if node.text:
        return f"{node.text} ({node.kind})"
    empty = node.kind in ("list", "mapping") and not (node.items or node.entries)
    return f"({'empty ' if empty else ''}{node.kind})"
