"""Reading a topology file: YAML as nodes that know their line, and nothing that is ambiguous."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import yaml

from provision.core.errors import TopologyError


@dataclass(frozen=True)
class Node:
    """One value of a file, with the line where it starts (from 1)."""

    line: int
    kind: str
    text: str = ""
    items: tuple[Node, ...] = ()
    entries: tuple[tuple[Node, Node], ...] = ()


_KINDS = {
    "str": "text",
    "int": "a number",
    "float": "a number with a fraction",
    "bool": "true or false",
    "null": "nothing",
    "timestamp": "a date",
    "seq": "a list",
    "map": "a mapping",
}


class _Loader(yaml.SafeLoader):
    """SafeLoader without aliases, which Ruby's safe loader refuses too, and without own tags."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            self._refuse("aliases (*name) are not allowed here: write the value out", event)
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._refuse(f"tags ({tag}) are not allowed here: leave it out", event)
        return super().compose_node(parent, index)

    def _refuse(self, problem: str, event: yaml.Event) -> None:
        mark: Any = event.start_mark
        raise yaml.composer.ComposerError(None, None, problem, mark)


def read(text: str, shown: str) -> Node:
    """Text to nodes; the first syntax error ends it, since nothing after it can be trusted."""
    loader = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        return Node(1, "nothing") if root is None else _node(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}" if mark else ""
        column = f" (column {mark.column + 1})" if mark else ""
        what = error.problem or error.context or "cannot be understood"
        raise TopologyError(
            f"{shown}{place}: not the plain YAML of a topology: {what}{column}",
            "compare it with configs/topologies/distributed.yml",
        ) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise TopologyError(
            f"{shown}:{line}: not YAML: the character {error.character!r} is not allowed",
            "remove it",
        ) from None
    except RecursionError:
        raise TopologyError(f"{shown}: not a topology: it is nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()


def _node(node: yaml.Node) -> Node:
    kind = _KINDS.get(node.tag.rpartition(":")[2], "something else")
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        return Node(line, kind, entries=tuple(_entry(k, v) for k, v in node.value))
    if isinstance(node, yaml.SequenceNode):
        return Node(line, kind, items=tuple(_node(item) for item in node.value))
    return Node(line, kind, text=str(node.value))


def _entry(key: yaml.Node, value: yaml.Node) -> tuple[Node, Node]:
    """A key and its value; a block below its key counts as being on the key's line."""
    name, content = _node(key), _node(value)
    block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    return name, replace(content, line=name.line) if block else content
