"""Markdown becomes nodes of known kinds; nothing in it becomes a script, an image or a link."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from provision.board.markdown import KINDS, nodes
from provision.drills import catalogue

KNOWN = {*KINDS.values(), "br", "hr", "pre", "code", "span"}


def kinds(found: list[Any]) -> Iterator[str]:
    for node in found:
        if isinstance(node, list):
            yield node[0]
            yield from kinds(node[1:])


def test_what_stories_and_explanations_use() -> None:
    assert nodes("Try `sudo nginx -t`, **now**.") == [
        ["p", "Try ", ["code", "sudo nginx -t"], ", ", ["strong", "now"], "."]
    ]
    assert nodes("one\ntwo") == [["p", "one", " ", "two"]]
    assert nodes("From: sales\nTo: operations") == [["p", "From: sales", ["br"], "To: operations"]]
    assert nodes("    invoke lab.check\n    invoke lb.status\n") == [
        ["pre", "invoke lab.check\ninvoke lb.status"]
    ]
    assert nodes("- a\n- b") == [["ul", ["li", "a"], ["li", "b"]]]
    table = nodes("| a | b |\n|---|---|\n| 1 | 2 |")
    assert set(kinds(table)) == {"table", "thead", "tbody", "tr", "th", "td"}


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[click](javascript:alert(1)) <http://evil.example>",
        "![x](http://evil.example/x.png)",
        "# <b>x</b>",
        "> " * 200 + "deep",
        "`" * 5000,
    ],
)
def test_hostile_text_is_shown_as_text(text: str) -> None:
    assert set(kinds(nodes(text))) <= KNOWN
    assert "evil.example/x" not in repr(nodes(text))


def test_every_story_hint_and_lesson_of_the_catalogue() -> None:
    for drill in catalogue.load_all(catalogue.paths()):
        for text in (drill.story, *map(str, drill.front["hints"]), drill.front["lesson"]["text"]):
            assert set(kinds(nodes(text))) <= KNOWN, drill.id
