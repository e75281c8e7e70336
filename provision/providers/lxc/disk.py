"""The disk limit of a lab: its folder is a file system of its own, in a sparse file.

The limit holds for machines and snapshots together. A lab that was created without a limit keeps
its folder on the host's file system.
"""

from __future__ import annotations

from provision.core.classroom import limits_of
from provision.core.lab import Lab
from provision.providers.lxc.paths import LabPaths
from provision.providers.lxc.privileged import make_folders, run

MIB = 2**20
OPTIONS = "loop,noatime,discard"


def prepare(lab: Lab) -> None:
    """Make the folder of a new lab with a limit, or let that of an existing one grow to it."""
    own, limit = LabPaths.of(lab), limits_of(lab).disk
    action = f"limiting the disk space of lab {lab.name}"
    if own.disk.exists():
        attach(own)
        if limit * MIB > own.disk.stat().st_size:
            run(action, ["truncate", "-s", f"{limit}M", own.disk])
            device = run(action, ["findmnt", "-n", "-o", "SOURCE", own.directory]).stdout.strip()
            run(action, ["losetup", "-c", device])
            run(action, ["resize2fs", device])
        return
    if not limit or own.directory.exists():
        return
    make_folders(own.disk.parent)
    new = own.disk.with_suffix(".new")
    run(action, ["rm", "-f", "--", new])
    run(action, ["install", "-m", "600", "/dev/null", new])
    run(action, ["truncate", "-s", f"{limit}M", new])
    run(action, ["mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1", new])
    run(action, ["mv", "-T", "--", new, own.disk])
    attach(own)
    run(action, ["rmdir", "--", own.directory / "lost+found"])  # it would count as a machine


def attach(lab: LabPaths) -> None:
    """Mount the lab's file system, if it has one: it is not mounted after a reboot of the host."""
    if not lab.disk.exists() or lab.directory.is_mount():
        return
    make_folders(lab.directory)
    run(f"mounting {lab.directory}", ["mount", "-o", OPTIONS, lab.disk, lab.directory])


def remove(lab: LabPaths) -> None:
    """Unmount and remove the lab's file system. Idempotent."""
    if not lab.disk.exists():
        return
    action = f"removing {lab.disk}"
    # A container that has just ended may hold the mount for a moment.
    if lab.directory.is_mount() and not run(action, ["umount", lab.directory], ok=()).ok:
        run(action, ["umount", "--lazy", lab.directory])
    run(action, ["rm", "-f", "--", lab.disk])
    run(action, ["rmdir", "--", lab.disk.parent], ok=())
