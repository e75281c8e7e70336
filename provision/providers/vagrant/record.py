"""What is kept of virtual machines between commands: which they are, and their pinned host keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from provision.core import state
from provision.core.errors import LabError
from provision.core.lab import Lab
from provision.providers.vagrant.client import dotfolder

FILE = "vagrant.json"


@dataclass(frozen=True)
class Known:
    """A machine as it was when ``lab.up`` last read its host key.

    Args:
        id: its number at the provider; another one means that it was made anew.
        user: who logs in.
        host_key: what it must show.
    """

    id: str
    user: str
    host_key: str


def load(lab: Lab) -> dict[str, Known]:
    """By machine name, what is recorded.

    Raises:
        LabError: when the file is damaged.
    """
    path = lab.directory / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {name: Known(**values) for name, values in data.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise LabError(
            f"{path} is damaged ({error})", f"rm {path}, then invoke lab.up reads the keys anew"
        ) from None


def save(lab: Lab, known: Mapping[str, Known]) -> None:
    """Write it down, as a whole."""
    data = {name: vars(each) for name, each in known.items()}
    state.write(lab.directory / FILE, json.dumps(data, indent=2) + "\n")


def made(lab: Lab) -> dict[str, tuple[str, str]]:
    """By name, provider and number of the machines that Vagrant has made, read from its files.

    This is Vagrant's own record: it is there when machines are, and asking Vagrant itself takes
    one to three seconds.
    """
    found = {}
    for path in sorted(dotfolder(lab).glob("machines/*/*/id")):
        number = path.read_text(encoding="utf-8", errors="replace").strip()
        if number:
            found[path.parent.parent.name] = (path.parent.name, number)
    return found
