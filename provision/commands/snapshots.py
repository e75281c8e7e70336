"""`lab.snapshot`, `lab.restore`, `lab.snapshots`: save and restore a whole lab."""

from __future__ import annotations

from typing import Any

from provision.commands import show_checks, tables
from provision.commands.base import console, lab_name, open_session, publish, task
from provision.commands.progress import Progress
from provision.commands.results import snapshots as results
from provision.core.errors import LabError
from provision.core.hints import for_lab
from provision.core.lab import LAB_NAME, ROOT
from provision.core.locks import lab_lock
from provision.operations import restore as restoring
from provision.operations import snapshot as snapshotting
from provision.operations import spare as sparing
from provision.operations.restore import RestoredLab

MIB = 2**20


@task(
    result=results.SnapshotTaken,
    positional=["name"],
    help={
        "note": "a text that lab.snapshots shows (default: none)",
        "delete": "delete that snapshot instead",
        "spare": "boot a copy of its machines and freeze it: lab.restore then takes about a second "
        "(provider lxc; it needs the memory of a second lab)",
    },
)
def snapshot(
    c: Any, name: str, note: str = "", delete: bool = False, spare: bool = False, lab: str = ""
) -> None:
    """Save the whole lab while it serves.

    A snapshot holds machines, topology, recorded state and secrets.
    """
    session = open_session(lab)
    with session.lock(), Progress() as report:
        if delete:
            gone = snapshotting.delete(session.lab, session.provider, name, report)
        else:
            taken = snapshotting.take(session, name, note, report)
            if spare:
                sparing.prepare(session, name, report)
    if delete:
        publish(results.SnapshotTaken(snapshot=name, deleted=True))
        kept = "" if gone else "; its data stays on the disk while a machine or a snapshot uses it"
        print(f"snapshot {name} is deleted{kept}")
        return
    publish(
        results.SnapshotTaken(
            snapshot=name,
            deleted=False,
            size_bytes=taken.manifest.size,
            paused_seconds=round(taken.paused, 2),
        )
    )
    print(
        f"snapshot {name} is saved ({taken.manifest.size / MIB:.0f} MiB; the machines paused for "
        f"{taken.paused:.1f} s)"
    )
    print(for_lab(f"next: invoke lab.restore {name}    # returns to it", session.lab.name))


@task(result=results.RestoredValues, positional=["name"])
def restore(c: Any, name: str, lab: str = "") -> None:
    """Restore the whole lab from a snapshot.

    Later changes of machines and settings are lost.
    """
    directory = ROOT / ".lab" / lab_name(lab)
    if not (LAB_NAME.fullmatch(directory.name) and directory.is_dir()):
        open_session(lab)  # raises: there is no such lab
    with lab_lock(directory):
        with Progress() as report:
            restored = restoring.restore(directory.name, name, report)
        values = results.RestoredValues(
            snapshot=name,
            removed_machines=list(restored.removed),
            halted_machines=list(restored.halted),
            topology_copy=str(restored.topology_copy or ""),
        )
        publish(values)
        if restored.removed:
            print(
                f"removed, because the snapshot does not have them: {', '.join(restored.removed)}"
            )
        if restored.topology_copy:
            print(
                "the topology file has changed since; the lab uses the snapshot's copy: "
                f"{restored.topology_copy}"
            )
        if restored.halted:
            print(f"restored {name}; halted, as in the snapshot: {', '.join(restored.halted)}")
            print(for_lab("next: invoke lab.up", restored.session.lab.name))
            return
        _check(name, restored, values)


def _check(name: str, restored: RestoredLab, values: results.RestoredValues) -> None:
    session = restored.session
    with session.fleet() as fleet, Progress() as report:
        checked = restoring.check_restored(session, fleet, report)
    values["checks"] = show_checks.check_values(checked)
    show_checks.print_checks(console(), checked, only_bad=True)
    failed = [result for result in checked if result.status == "failed"]
    if failed:
        raise LabError(
            f"restored {name}, but {len(failed)} of {len(checked)} checks failed",
            "invoke lab.up",
        )
    skipped = sum(result.status == "skipped" for result in checked)
    more = f", {skipped} skipped" if skipped else ""
    print(f"restored {name}; all {len(checked) - skipped} checks pass{more}")


LAYOUT = tables.layout(
    "lab.snapshots",
    tables.Column("NAME"),
    tables.Column("DATE", 1),
    tables.Column("SIZE", 2, right=True),
    tables.Column("TOPOLOGY", 3),
    tables.Column("NOTE", prose=True),
)


@task(result=results.Snapshots)
def snapshots(c: Any, lab: str = "") -> None:
    """List the snapshots with date, size and note."""
    session = open_session(lab)
    infos = snapshotting.infos(session.lab, session.provider)
    values = [
        results.SnapshotValues(
            snapshot=info.name,
            created=info.date,
            size_bytes=info.size,
            topology=info.topology,
            note=info.note,
            problem=info.problem,
        )
        for info in infos
    ]
    size = sum(info.size for info in infos)
    if publish(results.Snapshots(size_bytes=size, snapshots=values)):
        return
    if not infos:
        print(for_lab("no snapshot yet; next: invoke lab.snapshot NAME", session.lab.name))
        return
    rows = [
        {
            "name": info.name,
            "date": info.date.replace("+00:00", "Z"),
            "size": f"{info.size / MIB:.0f} MiB" if info.size else "?",
            "topology": info.topology,
            "note": info.problem or info.note,
        }
        for info in infos
    ]
    tables.show(console(), LAYOUT, [tuple(row.values()) for row in rows])
    print(f"together {size / MIB:.0f} MiB")
