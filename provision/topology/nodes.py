"""Read YAML into nodes that know their line; aliases, tags and further documents are refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import yaml

from provision.core.errors import TopologyError


@dataclass(frozen=True)
class Node:
    """One value of a file.

    Args:
        line: where it starts, counted from 1.
        kind: ``string``, ``integer``, ``boolean``, ``list``, ``mapping`` or another name below.
    """

    line: int
    kind: str
    text: str = ""
    items: tuple[Node, ...] = ()
    entries: tuple[tuple[Node, Node], ...] = ()


_KINDS = {
    "str": "string",
    "int": "integer",
    "float": "float",
    "bool": "boolean",
    "null": "null",
    "timestamp": "date",
    "seq": "list",
    "map": "mapping",
}


class _Loader(yaml.SafeLoader):
    """SafeLoader without aliases, which Ruby's safe loader refuses too, and without tags."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            self._refuse("aliases (*name) are not allowed: write the value out", event)
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._refuse(f"tags ({tag}) are not allowed: remove it", event)
        return super().compose_node(parent, index)

    def _refuse(self, problem: str, event: yaml.Event) -> None:
        mark: Any = event.start_mark
        raise yaml.composer.ComposerError(None, None, problem, mark)


def parse_yaml(text: str, file: str) -> Node:
    """Parse one YAML document.

    Args:
        file: the name of the file in messages.

    Raises:
        TopologyError: for the first syntax error; what follows one cannot be parsed reliably.
    """
    loader = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        return Node(1, "null") if root is None else _node(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}" if mark else ""
        column = f" (column {mark.column + 1})" if mark else ""
        problem = error.problem or error.context or "unknown problem"
        raise TopologyError(
            f"{file}{place}: invalid YAML: {problem}{column}",
            "compare it with configs/topologies/distributed.yml",
        ) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise TopologyError(
            f"{file}:{line}: invalid YAML: the character {error.character!r} is not allowed",
            "remove it",
        ) from None
    except RecursionError:
        raise TopologyError(f"{file}: invalid YAML: nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()


def _node(node: yaml.Node) -> Node:
    kind = _KINDS.get(node.tag.rpartition(":")[2], "value of another type")
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        return Node(line, kind, entries=tuple(_entry(k, v) for k, v in node.value))
    if isinstance(node, yaml.SequenceNode):
        return Node(line, kind, items=tuple(_node(item) for item in node.value))
    return Node(line, kind, text=str(node.value))


def _entry(key: yaml.Node, value: yaml.Node) -> tuple[Node, Node]:
    """A key and its value; a block below its key gets the key's line."""
    name, content = _node(key), _node(value)
    block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    return name, replace(content, line=name.line) if block else content
