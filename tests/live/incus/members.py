"""Incus servers for tests: started, trusted by a client, and removed also after a failure."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision.core import classroom, platform
from provision.core.errors import LabError
from provision.core.lab import ROOT
from provision.core.state import lab_names
from tests.live.conftest import PREFIX, pool
from tests.live.incus import daemon
from tests.live.incus.daemon import Members

FOLDER = Path("/var/lib/foobar-lab-test-incus")
"""Of all runs, one folder for each, named by its process; on no overlay file system."""

REMOTE = "members"
POOL = "storage_pools: [{name: default, driver: dir}]"


def network() -> IPv4Network:
    """Of the members' links: the last part of the tests' pool."""
    own = pool() or IPv4Network("10.254.128.0/17")
    return list(own.subnets(new_prefix=24))[-1]


@contextlib.contextmanager
def running(*names: str) -> Iterator[Members]:
    """Members, with LAB_INCUS set so that labs are made on the first one over HTTPS.

    Several names make a cluster. The test is skipped when the packages cannot be had.
    """
    try:
        daemon.root_file_systems()
    except LabError as error:
        pytest.skip(f"Incus cannot be installed: {' '.join(error.what.split())}")
    remove_stale()
    before = {*lab_names()}, classroom.folder(ROOT).exists()
    folder = FOLDER / str(os.getpid())
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as environment:
        members = stack.enter_context(Members(folder, network()))
        stack.callback(_forget_labs, *before)
        first, *others = [members.start(name) for name in names]
        first.exec("admin", "init", "--preseed", stdin=POOL)
        if others:
            daemon.form_cluster(first, others)
        daemon.trust(first, REMOTE, folder / "client")
        environment.setenv("INCUS_CONF", str(folder / "client"))
        environment.setenv("LAB_INCUS", REMOTE)
        environment.setenv("LAB_PROVIDER", "incus")
        yield members


def _forget_labs(before: set[str], had_class: bool) -> None:
    """Remove the records that a failed test has left: the machines of its labs end with Incus."""
    for name in {*lab_names()} - before:
        if name.startswith(PREFIX):
            shutil.rmtree(ROOT / ".lab" / name, ignore_errors=True)
    if not had_class:
        shutil.rmtree(classroom.folder(ROOT), ignore_errors=True)


def remove_stale() -> None:
    """Remove what killed runs have left; their daemons ended with them."""
    for folder in FOLDER.glob("*"):
        if not platform.is_alive(int(folder.name)):
            for group in daemon.CGROUPS.glob(f"*/{daemon.GROUP}-{folder.name}-*"):
                subprocess.run(["find", group, "-depth", "-type", "d", "-delete"], check=False)
            Members(folder, network()).close()
