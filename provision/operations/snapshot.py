"""Take, list and delete snapshots: machines together with everything that describes the lab."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from provision.core.errors import LabError
from provision.core.growth import SNAPSHOTS
from provision.core.interrupted_restore import refuse_interrupted
from provision.core.lab import Lab
from provision.core.report import Report
from provision.operations import snapshot_archive as archive
from provision.operations.session import Session
from provision.operations.snapshot_archive import SnapshotManifest
from provision.providers import snapshot_names
from provision.providers.base import Provider

OTHER_ORIGIN = "machines only: not by lab.snapshot, or interrupted"


@dataclass(frozen=True)
class Taken:
    """A new snapshot, and the seconds for which its machines stood still."""

    manifest: SnapshotManifest
    paused: float


@dataclass(frozen=True)
class SnapshotInfo:
    """A snapshot in a list.

    Args:
        size: bytes; 0 when unknown.
        problem: why it cannot be restored, or empty.
    """

    name: str
    date: str = ""
    size: int = 0
    topology: str = ""
    note: str = ""
    problem: str = ""


def take(session: Session, name: str, note: str, report: Report) -> Taken:
    """Take a snapshot. Call it with the lab locked.

    Raises:
        LabError: when it cannot be taken; nothing of it is left behind.
    """
    lab, state, provider = session.lab, session.state, session.provider
    refuse_interrupted(lab.directory)
    existing = archive.names(lab.directory)
    snapshot_names.check_new(name, existing)
    if len(existing) >= SNAPSHOTS:
        raise LabError(
            f"lab {lab.name} has {len(existing)} snapshots, as many as a lab may have",
            f"invoke lab.snapshot {existing[0]} --delete",
        )
    new = archive.capture(lab, name)
    try:
        stored = provider.snapshot(lab, name, report)
    except BaseException:
        archive.discard(lab.directory, name)
        raise
    try:
        own_size = sum(path.stat().st_size for path in new.rglob("*") if path.is_file())
        manifest = SnapshotManifest(
            version=archive.VERSION,
            name=name,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            note=note,
            topology=state.current_topology,
            provider=provider.name,
            network=str(lab.network),
            machines=stored.machines,
            files=archive.checksums(new),
            size=own_size + sum(machine.size for machine in stored.machines.values()),
        )
        archive.commit(lab.directory, manifest)
    except BaseException:
        provider.delete_snapshot(lab, name, report)
        archive.discard(lab.directory, name)
        raise
    return Taken(manifest, stored.paused)


def delete(lab: Lab, provider: Provider, name: str, report: Report) -> bool:
    """Delete a snapshot, damaged or complete. Call it with the lab locked.

    Returns:
        False when its data stays on the disk because a machine or another snapshot uses it.

    Raises:
        LabError: when there is no such snapshot.
    """
    existing = {*archive.names(lab.directory), *provider.snapshots(lab)}
    snapshot_names.check_exists(name, existing)
    archive.delete(lab.directory, name)
    return provider.delete_snapshot(lab, name, report)


def infos(lab: Lab, provider: Provider) -> list[SnapshotInfo]:
    """All snapshots of a lab, the oldest first, and those that cannot be restored."""
    stored, infos = set(provider.snapshots(lab)), []
    known = archive.names(lab.directory)
    for name in known:
        try:
            manifest = archive.load(lab.directory, name)
        except LabError as error:
            infos.append(SnapshotInfo(name, problem=error.what))
            continue
        problem = "" if name in stored else "its machines are missing"
        infos.append(
            SnapshotInfo(
                name, manifest.date, manifest.size, manifest.topology, manifest.note, problem
            )
        )
    infos += [SnapshotInfo(name, problem=OTHER_ORIGIN) for name in stored - set(known)]
    return sorted(infos, key=lambda info: (info.date, info.name))
