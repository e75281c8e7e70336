"""Snapshots: copies of the machines' own files, stored in the lab's folder.

``.snapshots/<name>@<number>/<machine>/`` holds ``delta``, ``config`` and ``host-key.pub``. Its path
never changes, because a machine may use ``delta`` as a lower layer: a restore does not copy large
ones. So a deleted snapshot is only marked while something uses it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from provision.core.errors import ProviderError
from provision.core.lab import Lab
from provision.core.parallel import for_each
from provision.core.stored_machine import StoredMachine
from provision.providers.lxc.container_config import render_config
from provision.providers.lxc.paths import LabPaths
from provision.providers.lxc.privileged import make_folders, remove_tree, run, write_file
from provision.setup.host_os import free_mib

SCRIPT = Path(__file__).with_name("copy-frozen.sh")
COPY = ("cp", "-a", "--reflink=auto", "-T", "--")
DELETED = "deleted"
RESTORING = ".restoring"
"""The folder of machines that are prepared for a restore."""

RESERVE_MIB = 512
"""Free disk space that a snapshot or a restore leaves."""

LARGE = "1023k"
"""Larger files (find(1), ``-size``) are copied before the machines are frozen."""

LAYER_BYTES = 8 * 2**20
"""A larger delta becomes a lower layer instead of being copied."""

MAX_LAYERS = 8
"""Lower layers of a machine: the options of a mount are limited to one page (mount(2))."""


def create(
    lab: LabPaths, name: str, machines: Sequence[str], running: Collection[str]
) -> tuple[dict[str, StoredMachine], float]:
    """Copy the machines' data while the running ones are frozen.

    Returns:
        The stored machines, and the seconds for which they were frozen.
    """
    action = f"creating snapshot {name}"
    remove_unused(lab)
    used = {folder.name for folder in _folders(lab)}
    number = next(n for n in range(1, 10**6) if f"{name}@{n}" not in used)
    folder, new = lab.snapshots / f"{name}@{number}", lab.snapshots / f".new.{name}@{number}"
    make_folders(lab.snapshots, mode="700")
    _require_space(action, lab.directory, sum(_sizes([lab.machine(m) / "delta" for m in machines])))
    try:
        # When a machine has moved large files meanwhile, everything is copied while it is frozen.
        for large in (LARGE, "0"):
            remove_tree(new)
            make_folders(new, *(new / machine for machine in machines), mode="700")
            paused = _copy_frozen(action, lab, new, large, machines, running)
            prints = {machine: fingerprint(new / machine / "delta") for machine in machines}
            if all(prints[machine] == _recorded_fingerprint(new / machine) for machine in machines):
                break
        else:
            raise ProviderError(f"{action} failed: the copies differ from the machines")
        sizes = dict(zip(machines, _sizes([new / m for m in machines]), strict=True))
        run(action, ["mv", "-T", "--", new, folder])
    except BaseException:
        remove_tree(new)
        raise
    return {m: StoredMachine(m in running, prints[m], sizes[m]) for m in machines}, paused


def _copy_frozen(
    action: str,
    lab: LabPaths,
    new: Path,
    large: str,
    machines: Sequence[str],
    running: Collection[str],
) -> float:
    """Copy all machines; returns for how many seconds the running ones were frozen."""
    frozen = " ".join(sorted(running))
    result = run(
        action, ["sh", SCRIPT, lab.lxc, lab.host_keys, new, large, frozen, *machines], ok=()
    )
    if not result.ok:
        raise ProviderError(
            f"{action} failed; the machines run on, and nothing was saved",
            "free disk space (invoke lab.snapshots shows sizes), then run it again",
            output=result.output,
        )
    return int(result.stdout.split()[-1]) / 1000 if running else 0.0


def fingerprint(folder: Path) -> str:
    """A hash of type, mode, owner, size, time and name of everything in a folder but sockets.

    File contents are not read: whatever changes or truncates a file changes its time or size.
    """
    directory = ["(", "-type", "d", "-printf", r"%y %m %U %G %T@ %P\0", ")"]
    other = ["(", "!", "-type", "s", "-printf", r"%y %m %U %G %s %T@ %P %l\0", ")"]
    argv = ["find", str(folder), "-mindepth", "1", *directory, "-o", *other]
    return _fingerprint_of(run(f"reading {folder}", argv).stdout)


def _recorded_fingerprint(folder: Path) -> str:
    """The fingerprint of a machine while it was frozen."""
    listing = run(f"reading {folder}", ["cat", "--", folder / "listing"]).stdout
    return _fingerprint_of(listing)


def _fingerprint_of(listing: str) -> str:
    return hashlib.sha256("\0".join(sorted(listing.split("\0"))).encode()).hexdigest()


def stored(lab: LabPaths) -> dict[str, Path]:
    """The folders of the snapshots by name, without deleted ones."""
    return {
        folder.name.partition("@")[0]: folder
        for folder in _folders(lab)
        if not _exists(folder / DELETED)
    }


def prepare(lab: Lab, name: str, machines: Mapping[str, StoredMachine]) -> None:
    """Verify a snapshot, and create the machines of it beside the present ones.

    Raises:
        ProviderError: when it is damaged, or the disk is full. No machine was touched.
    """
    own = LabPaths.of(lab)
    source = stored(own)[name]
    lower = for_each(machines, lambda m: _verified(name, source / m, machines[m].fingerprint))
    small = {m for m in machines if machines[m].size <= LAYER_BYTES}
    copied = small | {m for m in machines if len(lower[m]) >= MAX_LAYERS}
    action = f"restoring snapshot {name}"
    _require_space(action, own.directory, sum(machines[m].size for m in copied))
    prepared = own.directory / RESTORING
    remove_tree(prepared)
    make_folders(prepared, *(prepared / m for m in machines), mode="700")

    def prepare(machine: str) -> None:
        folder, kept = prepared / machine, source / machine / "delta"
        layers = create_upper_layer(
            action, folder, kept, lower[machine], layered=machine not in copied
        )
        run(action, ["cp", "-a", "--", source / machine / "host-key.pub", folder])
        write_file(folder / "config", render_config(lab, lab.machine(machine), layers))

    try:
        for_each(machines, prepare)
    except BaseException:
        remove_tree(prepared)
        raise


def create_upper_layer(
    action: str, folder: Path, kept: Path, lower: tuple[Path, ...], *, layered: bool
) -> tuple[Path, ...]:
    """Create the upper layer of a machine from its stored files; returns its lower layers.

    Args:
        kept: the stored ``delta``.
        lower: the layers that it was on.
        layered: use it as a lower layer under an empty one, instead of copying it.
    """
    if layered:
        make_folders(folder / "delta")
        return (kept, *lower)
    run(action, [*COPY, kept, folder / "delta"])
    return lower


def replace_machine(lab: LabPaths, machine: str) -> None:
    """Replace a stopped machine by its prepared one."""
    prepared, folder = lab.directory / RESTORING / machine, lab.machine(machine)
    action = f"restoring {machine}"
    if _exists(folder):
        run(action, ["mv", "-T", "--", folder, lab.directory / RESTORING / f".old.{machine}"])
    make_folders(lab.host_keys)
    key = lab.host_keys / f"{machine}.pub"
    run(action, ["install", "-m", "644", "--", prepared / "host-key.pub", key])
    run(action, ["mv", "-T", "--", prepared, folder])


def finish(lab: LabPaths) -> None:
    """Remove what a restore leaves: the replaced machines, and snapshots no longer in use."""
    remove_tree(lab.directory / RESTORING)
    remove_unused(lab)


def delete(lab: LabPaths, name: str) -> bool:
    """Delete a snapshot; False when its data must stay until nothing uses it."""
    folder = stored(lab).get(name)
    if folder is None:
        remove_unused(lab)
        return True
    run(f"deleting snapshot {name}", ["install", "-m", "600", "/dev/null", folder / DELETED])
    remove_unused(lab)
    return not _exists(folder)


def remove_unused(lab: LabPaths) -> None:
    """Remove incomplete snapshots, and deleted ones that are no lower layer of anything."""
    folders = _folders(lab)
    deleted = [folder for folder in folders if _exists(folder / DELETED)]
    kept = [folder for folder in folders if folder not in deleted]
    configs = _configurations([lab.directory, *kept]) if deleted else ""
    unused = [folder for folder in deleted if f"{folder}/" not in configs]
    incomplete = _listed(lab.snapshots, ".new.*")
    if unused or incomplete:
        remove_tree(*unused, *incomplete)


def _verified(name: str, folder: Path, expected: str) -> tuple[Path, ...]:
    """The lower layers of a stored machine, after everything was found to be there."""
    for part in (folder / "config", folder / "delta", folder / "host-key.pub"):
        if not _exists(part):
            raise _damaged(name, f"{part} is missing")
    if fingerprint(folder / "delta") != expected:
        raise _damaged(name, f"files in {folder / 'delta'} were changed or removed")
    config = run(f"reading {folder}", ["cat", "--", folder / "config"]).stdout
    lower = lower_layers(config)
    for layer in lower:
        if not _exists(layer):
            raise _damaged(name, f"it needs {layer}, which is missing")
    return lower


def lower_layers(config: str) -> tuple[Path, ...]:
    """The lower layers in a container's configuration, the uppermost first."""
    for line in config.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "lxc.rootfs.path":
            return tuple(map(Path, value.strip().removeprefix("overlay:").split(":")[:-1]))
    return ()


def _damaged(name: str, why: str) -> ProviderError:
    return ProviderError(
        f"snapshot {name} is incomplete or damaged: {why}; nothing was changed",
        "invoke lab.snapshots",
    )


def _require_space(action: str, folder: Path, needed: int) -> None:
    free, wanted = free_mib(folder), needed // 2**20 + RESERVE_MIB
    if free < wanted:
        raise ProviderError(
            f"{action} needs {wanted} MiB in {folder}, and {free} MiB are free; nothing was "
            "changed",
            "invoke lab.snapshots shows sizes; invoke lab.snapshot NAME --delete frees one",
        )


def _sizes(folders: Sequence[Path]) -> list[int]:
    argv = ["du", "-s", "--block-size=1", "--", *map(str, folders)]
    lines = run("measuring the machines", argv).stdout.splitlines()
    return [int(line.split("\t")[0]) for line in lines]


def _folders(lab: LabPaths) -> list[Path]:
    return _listed(lab.snapshots, "[!.]*")


def _listed(folder: Path, pattern: str) -> list[Path]:
    argv = ["find", str(folder), "-mindepth", "1", "-maxdepth", "1", "-type", "d", "-name", pattern]
    lines = run(f"reading {folder}", [*argv, "-print"], ok=(0, 1)).stdout.splitlines()
    return sorted(map(Path, lines))


def _configurations(folders: Sequence[Path]) -> str:
    """The configurations of the machines directly in these folders, and of prepared ones."""
    argv = ["find", *map(str, folders), "-mindepth", "2", "-maxdepth", "3", "-name", "config"]
    argv += ["-type", "f", "-exec", "cat", "{}", "+"]
    return run("reading the configurations of machines", argv, ok=(0, 1)).stdout


def _exists(path: Path) -> bool:
    return run(f"looking for {path}", ["test", "-e", path], ok=(0, 1)).ok
