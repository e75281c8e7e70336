"""Where machines come from: which provider a lab uses, and why."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, cast

from provision.core.errors import UsageError, not_among
from provision.core.state import State
from provision.providers.base import Provider
from provision.setup import choice

if TYPE_CHECKING:
    from provision.providers.ssh import SshProvider

PROVIDERS = {
    "lxc": ("provision.providers.lxc.provider", "LxcProvider"),
    "vagrant": ("provision.providers.vagrant", "VagrantProvider"),
    "ssh": ("provision.providers.ssh", "SshProvider"),
    "incus": ("provision.providers.incus", "IncusProvider"),
}
"""By name: module and class. A provider's module is imported only when it is used."""


def provider(name: str) -> Provider:
    """The provider of that name.

    Raises:
        UsageError: when the name is unknown.
    """
    if name not in PROVIDERS:
        raise not_among(f"unknown provider {name!r}", name, PROVIDERS)
    module, attribute = PROVIDERS[name]
    return cast("Callable[[], Provider]", getattr(import_module(module), attribute))()


def requested(option: str) -> str:
    """The provider that the user requests: ``--provider``, else LAB_PROVIDER, else empty."""
    return option or os.environ.get("LAB_PROVIDER", "")


def set_ssh_options(source: Provider, inventory: str, pin: bool) -> None:
    """Pass ``--inventory`` and ``--pin`` to the ssh provider.

    Raises:
        UsageError: when one is given to a provider that creates its machines.
    """
    if not inventory and not pin:
        return
    if source.name != "ssh":
        raise UsageError(
            f"--inventory and --pin are for existing machines, and provider {source.name} "
            "creates its own",
            "add --provider ssh",
        )
    existing = cast("SshProvider", source)
    existing.inventory, existing.pin = inventory, pin


def for_state(state: State) -> Provider:
    """The provider that created a lab's machines."""
    return provider(state.provider)


def choose(
    option: str,
    state: State | None,
    detect: Callable[[], choice.HostCapabilities] = choice.detect,
) -> tuple[Provider, str]:
    """The provider for ``lab.up``, and the reason for it.

    Precedence: ``--provider``, LAB_PROVIDER, the lab's record, the capabilities of this host.

    Raises:
        UsageError: when the name is unknown, or differs from the recorded provider.
    """
    current = state.provider if state else ""
    for value, origin, undo in (
        (option, "--provider", "omit --provider"),
        (os.environ.get("LAB_PROVIDER", ""), "LAB_PROVIDER", "unset LAB_PROVIDER"),
    ):
        if value:
            if value in PROVIDERS and current not in ("", value):
                raise UsageError(
                    f"this lab was created with provider {current}, and {origin} is {value}",
                    f"{undo}, choose another lab with --lab, or first: invoke lab.destroy",
                )
            return provider(value), f"from {origin}"
    if current:
        return provider(current), "the lab was created with it"
    name, reason = choice.select(detect())
    return provider(name), reason
