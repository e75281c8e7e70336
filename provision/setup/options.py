"""The command lines of scripts/up and scripts/test."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from provision.setup import choice
from provision.setup.console import USAGE, SetupError
from provision.setup.system import SYSTEMS

CORE = "core"
LONG_GROUPS = ("topologies", "diagnosis", "drills", "classroom", "incus", "offline", "vm")
"""Groups of tests after the core, in the order in which they run."""

SELECTIONS = {
    "--quick": (),
    "--diagnosis": ("topologies", "diagnosis"),
    "--vm": ("topologies", "vm"),
    "--drills": ("topologies", "drills"),
    "--classroom": ("topologies", "classroom"),
    "--incus": ("topologies", "incus"),
    "--offline": ("topologies", "offline"),
    "--all": LONG_GROUPS,
}
"""Options of scripts/test, and the groups that each selects in addition to the core."""

BUNDLE = "--bundle"
"""The option of scripts/up with the file that everything comes from."""


@dataclass(frozen=True)
class UpOptions:
    """What scripts/up was asked for.

    Args:
        arguments: for ``invoke lab.up``.
        provider: the one that ``lab.up`` will select.
        bundle: the path of a bundle that everything comes from; empty for none.
    """

    arguments: tuple[str, ...]
    provider: str
    bundle: str = ""


@dataclass(frozen=True)
class TestOptions:
    """What scripts/test was asked for.

    Args:
        groups: after the core.
        arguments: for pytest, which then runs instead of the groups.
    """

    __test__ = False

    groups: tuple[str, ...] = ("topologies",)
    arguments: tuple[str, ...] = ()


def parse_up(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> UpOptions:
    """Parse the arguments of scripts/up; all but ``--bundle FILE`` are for ``invoke lab.up``.

    Raises:
        SetupError: when the file is missing.
    """
    others, bundle = [], ""
    words = iter(arguments)
    for word in words:
        if word.partition("=")[0] == BUNDLE:
            bundle = word.partition("=")[2] if "=" in word else next(words, "")
            if not bundle:
                raise SetupError(
                    f"{BUNDLE} needs a file", f"scripts/up {BUNDLE} FILE", status=USAGE
                )
        else:
            others.append(word)
    return UpOptions(tuple(others), provider_of(others, environ), bundle)


def provider_of(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> str:
    """The provider that ``lab.up`` selects for these arguments, for a lab without a record."""
    for position, argument in enumerate(arguments):
        if argument.startswith("--provider="):
            return argument.partition("=")[2]
        if argument == "--provider" and position + 1 < len(arguments):
            return arguments[position + 1]
    if environ.get("LAB_PROVIDER"):
        return environ["LAB_PROVIDER"]
    return choice.select(choice.detect(environ))[0]


def parse_test(arguments: Sequence[str]) -> TestOptions:
    """Parse the arguments of scripts/test; several selections add up."""
    selected = [SELECTIONS[argument] for argument in arguments if argument in SELECTIONS]
    others = tuple(argument for argument in arguments if argument not in SELECTIONS)
    if not selected:
        return TestOptions(arguments=others)
    wanted = {group for groups in selected for group in groups}
    return TestOptions(tuple(group for group in LONG_GROUPS if group in wanted), others)


def runs_containers() -> bool:
    """Whether this system can run the machines of the live tests."""
    return SYSTEMS.get(sys.platform, "Linux") == "Linux"
