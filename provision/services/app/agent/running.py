"""Which release the application's process runs, whatever the application itself reports."""

from __future__ import annotations

import os
from dataclasses import dataclass

from provision.engine.agent.process import must
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, collector


@dataclass(frozen=True)
class RunningRelease:
    """The folder in which a unit's process was started.

    Args:
        folder: absolute, without links; empty when it does not run.
    """

    folder: str = ""

    @property
    def version(self) -> str:
        """The release's version; empty when it does not run."""
        return self.folder.rpartition("/")[2]


def running_probe(unit: str) -> Probe[RunningRelease]:
    """The release that a unit's process runs."""
    return Probe("running-release", f"running release of {unit}", {"unit": unit}, RunningRelease)


@collector("running-release")
def collect_running(args: Args) -> RunningRelease:
    """See `running_probe`; the working directory of the process is the release's folder."""
    argv = ["systemctl", "show", "--property=MainPID", "--value", "--", args["unit"]]
    process = must(argv).stdout.strip()
    try:
        return RunningRelease(os.readlink(f"/proc/{process}/cwd") if process != "0" else "")
    except OSError:  # it has just ended
        return RunningRelease()
