"""Helpers of the tests of the topology ``secured``."""

from __future__ import annotations

from pathlib import Path

from provision.core.lab import ROOT, Machine
from tests.live.conftest import RunningLab


def machines(lab: RunningLab) -> dict[str, Machine]:
    """The lab's machines by name."""
    return {m.name: m for m in lab.session().lab.machines}


def planned(lab: RunningLab) -> str:
    """The output of lab.plan; empty if there are no changes."""
    result = lab.invoke("lab.plan", "--detailed-exitcode", check=False)
    assert result.returncode in (0, 3), result.stderr
    return result.stdout if result.returncode else ""


def admitting(folder: Path, ssh_from: str) -> str:
    """A topology file like ``secured``, with another network that may connect to sshd.

    Args:
        folder: where to write it.
        ssh_from: a network.
    """
    text = (ROOT / "configs" / "topologies" / "secured.yml").read_text()
    path = folder / "secured.yml"
    path.write_text(text.replace("https: true", f"https: true\nssh_from: [{ssh_from}]", 1))
    return str(path)
