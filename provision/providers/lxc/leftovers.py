"""Labs that somebody left on this host, such as tests that were cut off: found and removed.

``python -m provision.providers.lxc.leftovers [--keep ID]… FOLDER…`` removes the labs of all
checkouts in these folders, whether their files are still there or not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from ipaddress import IPv4Network
from pathlib import Path

from provision.core.errors import LabError
from provision.core.lab import Lab, Topology
from provision.providers.lxc import places
from provision.providers.lxc.provider import LxcProvider


def find(folders: Collection[Path], keep: Collection[str] = ()) -> tuple[Lab, ...]:
    """The labs on this host whose checkout is one of these folders or inside one.

    Args:
        folders: absolute paths.
        keep: ids of labs to leave out.
    """
    found = []
    for path in sorted(places.HOST.glob(f"*/{places.OWNER}")):
        root, name = path.read_text(encoding="utf-8").splitlines()[:2]
        inside = any(Path(root).is_relative_to(folder) for folder in folders)
        if inside and path.parent.name not in keep:
            nothing = Topology("", "", IPv4Network("0.0.0.0/32"), ())
            found.append(Lab(name, Path(root), nothing))
    return tuple(found)


def main(arguments: Sequence[str]) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(description="remove labs that somebody left on this host")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--keep", action="append", default=[], metavar="ID")
    options = parser.parse_args(arguments)
    status = 0
    for lab in find([folder.resolve() for folder in options.folders], options.keep):
        print(f"removing lab {lab.name} of {lab.root}")
        try:
            LxcProvider().destroy(lab, lambda machine, doing: None)
        except LabError as error:
            print(error, file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
