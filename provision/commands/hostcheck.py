"""`lab.doctor --host`: what this host has for every provider, in one table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from provision.core.lab import Lab
from provision.providers import choice, provider
from provision.providers.base import Problem


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        provider: ``lxc``, ``vagrant``, ``ssh``; empty on its further lines.
        word: ``ready``, ``missing`` or ``note``.
        what: what is missing or in the way.
        advice: what mends it.
    """

    provider: str
    word: str
    what: str = ""
    advice: str = ""


HEADER = ("PROVIDER", "", "WHAT", "MEND")


def rows(name: str, problems: Sequence[Problem], good: str) -> list[Row]:
    """The lines for one provider; its first line says whether it could be used.

    Args:
        name: the provider's.
        problems: what its preflight found.
        good: what there is to say when nothing is in the way.
    """
    found = []
    if not any(p.fatal for p in problems):
        found.append(Row(name, "ready", good))
    for problem in sorted(problems, key=lambda p: not p.fatal):
        word = "missing" if problem.fatal else "note"
        found.append(Row("" if found else name, word, problem.what, problem.advice))
    return found


def host(
    lab: Lab, system: str = choice.SYSTEMS.get(sys.platform, "Linux")
) -> tuple[list[Row], tuple[str, str]]:
    """All providers' preflights on this host, and which one a new lab would get, and why.

    Args:
        lab: for which room and network are judged.
        system: this host's.
    """
    found: list[Row] = []
    looks: dict[str, tuple[str, Callable[[], Sequence[Problem]]]] = {
        "lxc": ("system containers", lambda: provider("lxc").preflight(lab)),
        "vagrant": ("virtual machines", lambda: provider("vagrant").preflight(lab)),
    }
    for name, (good, look) in looks.items():
        if name == "lxc" and system != "Linux":
            what = f"containers need Linux, and this is {system}"
            found.append(Row(name, "missing", what, "use the provider vagrant"))
        else:
            found += rows(name, look(), good)
    found.append(Row("ssh", "ready", "existing machines; lab.up --provider ssh judges each"))
    return found, choice.pick(choice.gather())
