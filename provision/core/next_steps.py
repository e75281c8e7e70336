"""How hints are shown: every command alone on its line, so that the line can be pasted.

Hints are sentences such as ``invoke lab.status shows which machines run; invoke lab.up continues``.
What explains a command follows it as a shell comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

REQUIRED = {
    "bundle.verify": 1,
    "db.promote": 1,
    "db.rejoin": 1,
    "db.restore": 1,
    "drill.course": 1,
    "drill.new": 1,
    "drill.try": 1,
    "lab.completion": 1,
    "lab.kill": 1,
    "lab.logs": 1,
    "lab.rebuild": 1,
    "lab.rescue": 1,
    "lab.restart": 1,
    "lab.restore": 1,
    "lab.snapshot": 1,
    "lab.ssh": 1,
    "lab.start": 1,
    "lab.trust": 1,
    "lb.algorithm": 1,
    "lb.drain": 1,
    "lb.mode": 1,
    "lb.ready": 1,
    "lb.weight": 2,
    "tls.renew": 1,
}
"""How many arguments a task needs; a test compares this with the tasks."""

OPTIONAL = {
    "app.deploy",
    "bundle.create",
    "bundle.outdated",
    "class.up",
    "db.autopromote",
    "dns.trace",
    "drill.lint",
    "drill.replay",
    "drill.start",
    "firewall.show",
    "lab.explain",
    "lab.halt",
    "lab.spof",
    "monitor.qps",
}
"""Tasks with an argument that may be left out."""

FLAGS = {
    "--accept-data-loss",
    "--add",
    "--all",
    "--class",
    "--csv",
    "--database",
    "--delete",
    "--detailed-exitcode",
    "--discard",
    "--exam",
    "--fix",
    "--follow",
    "--for-learners",
    "--help",
    "--host",
    "--html",
    "--json",
    "--keep",
    "--minimal",
    "--old-primary-is-dead",
    "--once",
    "--pin",
    "--quiet",
    "--random",
    "--rebuild",
    "--refresh",
    "--remove",
    "--spare",
    "--start",
    "--tests",
    "--yes",
}
"""Options without a value."""

_START = re.compile(r"(?:[^;,:\s][^;,:]*&& |[A-Z_]+=\S+ )*\binvoke (?P<task>[a-z]+\.[a-z-]+)")
_WORD = re.compile(r" +(?P<word>[^\s,;)(.][^\s,;)(]*?)(?=\.?(?:[\s,;)]|$))")
_REMOTE = re.compile(r"[^;(]*?(?=;| \(|, |$)")
"""What follows ``--``: a command for a machine."""

_ARGUMENT = re.compile(r"[A-Z][A-Z0-9_-]*|[a-z]+-\d\d|\S*[/\d]\S*|on|off|status")
"""What an argument that may be left out looks like, in contrast to a sentence's next word."""


def lines_of(hint: str) -> list[str]:
    """The lines of a hint: prose, or a command with ``# …`` behind it."""
    lines: list[str] = []
    for line in hint.splitlines():
        lines += _lines(line)
    return lines


def labelled(hint: str) -> str:
    """A hint behind ``next:``; further lines are aligned with the first."""
    return "next: " + "\n      ".join(lines_of(hint))


def _lines(text: str) -> Iterator[str]:
    position = 0
    while match := _START.search(text, position):
        yield from _prose(text[position : match.start()])
        end = _end_of_command(text, match["task"], match.end())
        command = text[match.start() : end]
        rest = re.match(r"[^;]*?(?=;|$|\S+ && invoke |\binvoke [a-z]+\.)", text[end:])
        position = end + (rest.end() if rest else 0)
        why = _clause(text[end:position])
        yield f"{command}    # {why}" if why else command
    yield from _prose(text[position:])


def _prose(text: str) -> Iterator[str]:
    if clause := _clause(text):
        yield clause


def _clause(text: str) -> str:
    """A part of a sentence without the punctuation around it."""
    text = text.strip(" ,;:.#")
    if text.count(")") > text.count("("):
        text = text.replace(")", "", 1)
    elif text.count("(") > text.count(")"):
        text = text.replace("(", "", 1)
    elif text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    return text.strip(" ,;:.")


def _end_of_command(text: str, task: str, position: int) -> int:
    """Where a command's words end, after the name of its task."""
    needed, optional, value = REQUIRED.get(task, 0), task in OPTIONAL, False
    while match := _WORD.match(text, position):
        word = match["word"]
        if word == "--":
            return _REMOTE.match(text, match.end()).end()  # type: ignore[union-attr]
        if word == "&&" and (following := _START.match(text, match.end() + 1)):
            return _end_of_command(text, following["task"], following.end())
        if value:
            value = False
        elif word.startswith("-"):
            value = word not in FLAGS and "=" not in word
        elif needed:
            needed -= 1
        elif optional and _ARGUMENT.fullmatch(word):
            optional = False
        else:
            break
        position = match.end("word")
    return position
