"""Where machines come from: which provider a lab uses, and why."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, cast

from provision.core.errors import UsageError
from provision.core.state import State
from provision.providers import choice
from provision.providers.base import Provider

if TYPE_CHECKING:
    from provision.providers.ssh import SshProvider

PROVIDERS = {
    "lxc": ("provision.providers.lxc", "LxcProvider"),
    "vagrant": ("provision.providers.vagrant", "VagrantProvider"),
    "ssh": ("provision.providers.ssh", "SshProvider"),
}
"""By name: the module and the class, imported when one is asked for."""


def provider(name: str) -> Provider:
    """The provider of that name.

    Raises:
        UsageError: when there is none.
    """
    if name not in PROVIDERS:
        known = ", ".join(PROVIDERS)
        raise UsageError(f"there is no provider {name!r}", f"choose from {known}")
    module, attribute = PROVIDERS[name]
    make = cast("Callable[[], Provider]", getattr(import_module(module), attribute))
    return make()


def asked(option: str) -> str:
    """The provider that somebody asks for: ``--provider``, else LAB_PROVIDER, else empty."""
    return option or os.environ.get("LAB_PROVIDER", "")


def tell(source: Provider, inventory: str, pin: bool) -> None:
    """Give a provider what was said about machines that exist already.

    Raises:
        UsageError: when it makes its machines itself.
    """
    if not inventory and not pin:
        return
    if source.name != "ssh":
        raise UsageError(
            f"--inventory and --pin are about machines that exist already, and provider "
            f"{source.name} makes its own",
            "add --provider ssh",
        )
    existing = cast("SshProvider", source)
    existing.inventory, existing.pin = inventory, pin


def of(state: State) -> Provider:
    """The provider that a lab's machines came from: what is there decides, not what is wished."""
    return provider(state.provider)


def choose(
    option: str, state: State | None, look: Callable[[], choice.Host] = choice.gather
) -> tuple[Provider, str]:
    """The provider that a lab comes up with, and why it is that one.

    What ``--provider`` says, else the environment's LAB_PROVIDER, else what the lab was made
    with, else what this host can do.

    Args:
        option: what ``--provider`` said, or empty.
        state: what is recorded of the lab, or None.
        look: finds out what this host has; asked only when nothing else decides.

    Raises:
        UsageError: when the name is unknown, or differs from the one the lab was made with.
    """
    recorded = state.provider if state else ""
    for asked, who, other in (
        (option, "--provider", "leave --provider out"),
        (os.environ.get("LAB_PROVIDER", ""), "LAB_PROVIDER", "unset LAB_PROVIDER"),
    ):
        if asked:
            if asked in PROVIDERS and recorded not in ("", asked):
                raise UsageError(
                    f"this lab's machines come from {recorded}, not {asked} as {who} says",
                    f"{other}, or take another --lab, or first: invoke lab.destroy",
                )
            return provider(asked), f"as {who} says"
    if recorded:
        return provider(recorded), "as the lab was made with"
    name, why = choice.pick(look())
    return provider(name), why
