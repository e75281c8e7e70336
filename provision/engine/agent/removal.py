"""Removing services and folders of the lab that a machine no longer needs."""

from __future__ import annotations

import contextlib
import os

from provision.engine.agent.files import Journal
from provision.engine.agent.process import AgentError, Log, must, run
from provision.engine.agent.registry import Args, action

LAB_FOLDERS = ("/etc/foobar-lab/", "/usr/local/lib/foobar-lab/", "/var/lib/foobar-lab/")
"""Only folders below these are removed with their contents."""


@action("remove-service")
def remove_service(args: Args, journal: Journal, log: Log) -> None:
    """Stop and disable a unit and remove its file: ``name``, ``path``."""
    name = args["name"]
    run(["systemctl", "disable", "--now", name], timeout=120)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(args["path"])
    run(["systemctl", "daemon-reload"])
    run(["systemctl", "reset-failed", name])


@action("remove-directory")
def remove_directory(args: Args, journal: Journal, log: Log) -> None:
    """Remove a folder of the lab with its contents: ``path``.

    Raises:
        AgentError: for a folder that is not the lab's own.
    """
    path = os.path.normpath(args["path"])
    if not path.startswith(LAB_FOLDERS):
        raise AgentError(f"{path} is not a folder of the lab")
    must(["rm", "-rf", "--", path])
