"""Complete the commands in hints: every ``invoke`` command gets the ``--lab`` it was typed with."""

from __future__ import annotations

import re

from provision.core.lab import DEFAULT_LAB

COMMANDS_WITHOUT_LAB = (
    "box.build",
    "bundle.create",
    "bundle.outdated",
    "bundle.verify",
    "class.destroy",
    "class.each",
    "class.reset",
    "class.sheet",
    "class.status",
    "class.up",
    "drill.lint",
    "drill.new",
    "lab.completion",
    "lab.list",
    "lab.prune",
)
"""Tasks that have no option ``--lab``."""

_COMMAND = re.compile(
    r"""\binvoke\ (?P<task>[a-z]+\.[a-z-]+)
        (?P<arguments>(?:(?!\binvoke\b|&&|[;,()\n]).)*)""",  # up to the next command or clause
    re.VERBOSE,
)


def for_lab(text: str, lab: str) -> str:
    """Insert ``--lab`` into every command of a text that does not have the option.

    Args:
        text: an error or a hint, such as ``invoke lab.up continues``.
        lab: the lab's name; nothing is inserted for the default lab.
    """
    if lab == DEFAULT_LAB:
        return text

    def insert(match: re.Match[str]) -> str:
        task, arguments = match["task"], match["arguments"]
        if task in COMMANDS_WITHOUT_LAB or re.search(r"--lab\b", arguments):
            return match.group()
        return f"invoke {task} --lab {lab}{arguments}"

    return _COMMAND.sub(insert, text)
