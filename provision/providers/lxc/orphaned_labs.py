"""Find and destroy labs of deleted or interrupted checkouts, such as those of aborted test runs.

``python -m provision.providers.lxc.orphaned_labs [--keep ID]… FOLDER…`` destroys the labs of all
checkouts in these folders, including checkouts that no longer exist.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from ipaddress import IPv4Network
from pathlib import Path

from provision.core.errors import LabError
from provision.core.lab import Lab, Topology
from provision.providers.lxc import paths
from provision.providers.lxc.provider import LxcProvider


def find(folders: Collection[Path], keep: Collection[str] = ()) -> tuple[Lab, ...]:
    """The labs of checkouts in these (absolute) folders, except those with an id in ``keep``."""
    labs = []
    for owner in sorted(paths.HOST.glob(f"*/{paths.OWNER}")):
        root, name = owner.read_text(encoding="utf-8").splitlines()[:2]
        inside = any(Path(root).is_relative_to(folder) for folder in folders)
        if inside and owner.parent.name not in keep:
            empty = Topology("", "", IPv4Network("0.0.0.0/32"), ())
            labs.append(Lab(name, Path(root), empty))
    return tuple(labs)


def main(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="destroy the labs of checkouts in these folders")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--keep", action="append", default=[], metavar="ID")
    options = parser.parse_args(arguments)
    status = 0
    for lab in find([folder.resolve() for folder in options.folders], options.keep):
        print(f"removing lab {lab.name} of {lab.root}")
        try:
            LxcProvider().destroy(lab, lambda _machine, _message: None)
        except LabError as error:
            print(error, file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
