"""On the machine: the data directory, made fit for cloning before mysqld first serves the lab.

A machine whose packages come from a shared layer (overlayfs) cannot rename directories of that
layer (error EXDEV; Linux's Documentation/filesystems/overlayfs.rst, "renaming directories"), and
CLONE renames ``#innodb_redo``: MySQL then dies at every start. So directories that cannot be
renamed are replaced by copies, once.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from provision.engine.agent.core import Say, must, run
from provision.engine.agent.files import Journal, place_file

DATA = "/var/lib/mysql"
MARK = "/var/lib/foobar-lab/mysql-data"


def settle(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Let every directory of the data be one that can be renamed, and mark that.

    The unit starts mysqld again afterwards.
    """
    say("looking at the data directory")
    if run(["systemctl", "is-active", "mysql.service"]).out.strip() != "inactive":
        must(["systemctl", "stop", "mysql.service"], timeout=120)
    for name in sorted(os.listdir(DATA)):
        path = f"{DATA}/{name}"
        if os.path.isdir(path) and not os.path.islink(path):
            own(path)
    os.makedirs(os.path.dirname(MARK), exist_ok=True)
    place_file(MARK, args["content"].encode(), 0, 0, 0o644)


def copy(path: str, to: str) -> None:
    """Copy a directory without InnoDB's spare redo log files, which it makes itself (100 MB).

    They end in ``_tmp`` (the manual, "Redo Log"); mysqld is stopped.
    """
    spare = [name for name in os.listdir(path) if name.startswith("#ib_redo")]
    spare = [name for name in spare if name.endswith("_tmp")]
    for name in spare:
        os.unlink(f"{path}/{name}")
    must(["cp", "-a", path, to])


def own(path: str) -> None:
    """Replace a directory by a copy of itself when it cannot be renamed."""
    aside = f"{path}.lab"
    must(["rm", "-rf", aside])
    try:
        os.rename(path, aside)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy(path, aside)
        must(["rm", "-rf", path])
    os.rename(aside, path)
