"""Markdown as a tree of a few kinds of nodes, from which the page makes elements.

No HTML is involved: the page creates each element by its kind and sets texts as texts, so that
nothing in a story, a hint or a title can become a script, an image or a link to somewhere else.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

Node = Any
"""A text, or ``[kind, child, …]``."""

KINDS = {
    "p": "p",
    "h1": "h3",
    "h2": "h4",
    "h3": "h5",
    "ul": "ul",
    "ol": "ol",
    "li": "li",
    "em": "em",
    "strong": "strong",
    "blockquote": "blockquote",
    "table": "table",
    "thead": "thead",
    "tbody": "tbody",
    "tr": "tr",
    "th": "th",
    "td": "td",
}
"""By Markdown's own element, the page's; anything else is shown as its text."""

HEADER_LINE = re.compile(r"[A-Z][\w-]*: .*")
"""A line such as ``From: sales``."""


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table")


@lru_cache(maxsize=256)
def nodes(text: str) -> list[Node]:
    """The nodes of a Markdown text; read only."""
    root: list[Node] = ["root"]
    stack = [root]
    for token in _parser().parse(text):
        _add(token, stack)
    return root[1:]


def _add(token: Token, stack: list[list[Node]]) -> None:
    if token.type == "inline":
        children = token.children or []
        heads = all(map(HEADER_LINE.fullmatch, token.content.splitlines()))
        for child in children:
            if child.type == "softbreak":
                stack[-1].append(["br"] if heads else " ")
            else:
                _add(child, stack)
    elif token.type in ("code_block", "fence"):
        stack[-1].append(["pre", token.content.rstrip("\n")])
    elif token.type == "code_inline":
        stack[-1].append(["code", token.content])
    elif token.type == "hardbreak":
        stack[-1].append(["br"])
    elif token.type == "hr":
        stack[-1].append(["hr"])
    elif token.nesting == 1:
        node: list[Node] = [KINDS.get(token.tag, "span")]
        if not token.hidden:
            stack[-1].append(node)
            stack.append(node)
    elif token.nesting == -1:
        if not token.hidden and len(stack) > 1:
            stack.pop()
    elif token.content:
        stack[-1].append(token.content)
