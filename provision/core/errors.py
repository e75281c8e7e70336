"""The errors a user sees: what happened, where, and what to type next."""

from __future__ import annotations

import re


class LabError(Exception):
    """A problem with one clear message.

    Args:
        what: what happened and where, in one or a few lines.
        advice: the next thing to do; a command where there is one.
        output: the last lines of what a program said, shown indented.
        status: the exit status of the command line.
    """

    def __init__(self, what: str, advice: str = "", *, output: str = "", status: int = 1) -> None:
        super().__init__(what)
        self.what = what
        self.advice = advice
        self.output = output
        self.status = status

    def __str__(self) -> str:
        parts = [self.what]
        if self.output.strip():
            parts += ["  | " + line for line in self.output.strip().splitlines()[-20:]]
        if self.advice:
            parts.append(f"next: {self.advice}")
        return "\n".join(parts)


class UsageError(LabError):
    """An argument that cannot be meant: an unknown machine, a malformed number."""

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(what, advice, status=2)


class TopologyError(LabError):
    """Everything that is wrong with one topology file, at once."""


class HostError(LabError):
    """A machine could not be reached, or what was asked of it failed."""


class ProviderError(LabError):
    """Machines could not be made, started or removed."""


def for_lab(text: str, lab: str) -> str:
    """The text with ``--lab`` in every command to type, unless it is there or not needed.

    Args:
        text: an error or an advice, such as ``invoke lab.up goes on from here``.
        lab: the lab's name.
    """
    if lab == "default":
        return text

    def add(found: re.Match[str]) -> str:
        rest = re.split(r"[;,()\n]", found.string[found.end() :], maxsplit=1)[0]
        return found.group() if "--lab" in rest else f"{found.group()} --lab {lab}"

    return re.sub(r"invoke [a-z]+\.[a-z-]+", add, text)
