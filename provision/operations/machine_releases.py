"""The releases that are unpacked on a machine: the last ones stay."""

from __future__ import annotations

from provision.core.growth import RELEASES_KEPT
from provision.engine.agent.protocol import Action, UnitRequest
from provision.engine.apply import send
from provision.engine.host import Host
from provision.services.app import role as app

KEPT = RELEASES_KEPT
"""Releases that stay on a machine, the current one among them."""


def remove_release(host: Host, *versions: str) -> None:
    """Remove releases and their virtual environments from a machine, complete or not."""
    folders = (app.RELEASES, app.ENVIRONMENTS)
    paths = [f"{folder}/{version}" for version in versions for folder in folders]
    send(host, "releases", UnitRequest((Action("remove-trees", {"paths": paths}),)), hint="")


def superfluous(present: list[str], history: list[str], current: str) -> list[str]:
    """The releases to remove from a machine, so that the last `KEPT` deployed ones remain.

    Args:
        present: versions on the machine, the one unpacked last at the end.
        history: versions in the order in which they were deployed.
        current: the running one.
    """
    never_deployed = [version for version in present if version not in history]
    deployed = [version for version in history if version in present and version != current]
    candidates = [*never_deployed, *deployed]
    return candidates[: max(0, len(candidates) - (KEPT - 1))]


def prune(host: Host, history: list[str], current: str) -> None:
    """Remove old releases and partly unpacked ones from a machine."""
    present = host.run("ls", "-1tr", app.RELEASES).stdout.split()
    partial = [name.partition(".lab-")[0] for name in present if ".lab-" in name]
    complete = [name for name in present if ".lab-" not in name]
    old = superfluous(complete, history, current)
    old += [name for name in partial if name not in complete]
    if old:
        remove_release(host, *old)
