"""Make MySQL's data directory fit for cloning before mysqld first serves the lab.

A machine whose packages come from a shared layer (overlayfs) cannot rename directories of that
layer (error EXDEV; Linux's Documentation/filesystems/overlayfs.rst, "renaming directories"), and
CLONE renames ``#innodb_redo``: mysqld would then crash at every start. So each directory that
cannot be renamed is replaced by a copy, once.
"""

from __future__ import annotations

import errno
import os

from provision.engine.agent.atomic import write_atomically
from provision.engine.agent.files import Journal
from provision.engine.agent.process import Log, must, run
from provision.engine.agent.registry import Args, action

DATA = "/var/lib/mysql"
MARK = "/var/lib/foobar-lab/mysql-data"


@action("mysql_data_directory")
def prepare(args: Args, journal: Journal, log: Log) -> None:
    """Stop mysqld, make every directory one that can be renamed, and write the mark: ``content``.

    The unit starts mysqld afterwards.
    """
    log("preparing the data directory")
    if run(["systemctl", "is-active", "mysql.service"]).stdout.strip() != "inactive":
        must(["systemctl", "stop", "mysql.service"], timeout=120)
    for entry in sorted(os.scandir(DATA), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            make_renamable(entry.path)
    os.makedirs(os.path.dirname(MARK), exist_ok=True)
    write_atomically(MARK, args["content"].encode(), 0o644)


def make_renamable(path: str) -> None:
    """Replace a directory by a copy of itself when it cannot be renamed."""
    aside = f"{path}.lab"
    must(["rm", "-rf", aside])
    try:
        os.rename(path, aside)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        remove_spare_redo_logs(path)
        must(["cp", "-a", path, aside])
        must(["rm", "-rf", path])
    os.rename(aside, path)


def remove_spare_redo_logs(path: str) -> None:
    """Remove InnoDB's spare redo log files (100 MB), which it recreates.

    Their names end in ``_tmp`` (the manual, "Redo Log"); mysqld is stopped.
    """
    for name in os.listdir(path):
        if name.startswith("#ib_redo") and name.endswith("_tmp"):
            os.unlink(f"{path}/{name}")
