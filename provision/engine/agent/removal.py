"""On the machine: removing what a role leaves behind where it is no longer wanted."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from provision.engine.agent.core import ACTIONS, Failed, Say, run
from provision.engine.agent.files import Journal

OURS = ("/etc/foobar-lab/", "/usr/local/lib/foobar-lab/", "/var/lib/foobar-lab/")
"""Only below these are whole folders removed; systemd's folders for drop-ins only when empty."""


def no_service(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Stop and disable a unit and remove its file: ``name``, ``path``."""
    name = args["name"]
    run(["systemctl", "disable", "--now", name], timeout=120)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(args["path"])
    run(["systemctl", "daemon-reload"])
    run(["systemctl", "reset-failed", name])


def no_directory(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Remove a folder of ours with all that is in it: ``path``.

    Raises:
        Failed: for a folder that is not the lab's own.
    """
    path = os.path.normpath(args["path"])
    if not path.startswith(OURS):
        raise Failed(f"{path} is not a folder of the lab")
    done = run(["rm", "-rf", "--", path])
    if done.status != 0:
        raise Failed(f"{path} could not be removed", done.err)


ACTIONS.update(no_service=no_service, no_directory=no_directory)
