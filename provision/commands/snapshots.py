"""`lab.snapshot`, `lab.restore`, `lab.snapshots`: save and restore a whole lab."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from provision.commands import show, show_checks
from provision.commands.base import console, lab_name, open_session, show_json, task
from provision.commands.progress import Progress
from provision.core.errors import LabError
from provision.core.lab import LAB_NAME, ROOT
from provision.core.locks import lab_lock
from provision.database.failover import control as failover
from provision.operations import restore as restoring
from provision.operations import snapshot as snapshotting
from provision.operations import up as steps
from provision.operations.restore import RestoredLab

MIB = 2**20


@task(
    positional=["name"],
    help={"note": "a text that lab.snapshots shows", "delete": "delete that snapshot instead"},
)
def snapshot(c: Any, name: str, note: str = "", delete: bool = False, lab: str = "") -> None:
    """Save the whole lab under a name: machines, topology, recorded state, secrets."""
    session = open_session(lab)
    with session.lock(), Progress() as report:
        if delete:
            gone = snapshotting.delete(session.lab, session.provider, name, report)
        else:
            taken = snapshotting.take(session, name, note, report)
    if delete:
        kept = "" if gone else "; its data stays on the disk while a machine or a snapshot uses it"
        print(f"snapshot {name} is deleted{kept}")
        return
    print(
        f"snapshot {name} is saved ({taken.manifest.size / MIB:.0f} MiB; the machines paused for "
        f"{taken.paused:.1f} s); restore it with: invoke lab.restore {name}"
    )


@task(positional=["name"])
def restore(c: Any, name: str, lab: str = "") -> None:
    """Restore the whole lab from a snapshot; later changes of machines and settings are lost."""
    directory = ROOT / ".lab" / lab_name(lab)
    if not (LAB_NAME.fullmatch(directory.name) and directory.is_dir()):
        open_session(lab)  # raises: there is no such lab
    with lab_lock(directory):
        with Progress() as report:
            restored = restoring.restore(directory.name, name, report)
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
            print(
                f"restored {name}; halted, as in the snapshot: {', '.join(restored.halted)}; "
                "next: invoke lab.up"
            )
            return
        _check(name, restored)


def _check(name: str, restored: RestoredLab) -> None:
    session = restored.session
    with session.fleet() as fleet:
        context = failover.adopt(session.context, fleet)
        with Progress() as report:
            results = steps.check_until_ok(context, fleet, session.provider, report)
    show_checks.print_checks(console(), results, only_bad=True)
    failed = [result for result in results if result.status == "failed"]
    if failed:
        raise LabError(
            f"restored {name}, but {len(failed)} of {len(results)} checks failed",
            "invoke lab.up",
        )
    print(f"restored {name}; all {len(results)} checks pass")


@task(help={"json": "print JSON"})
def snapshots(c: Any, lab: str = "", json: bool = False) -> None:
    """List the snapshots with date, size, topology and note."""
    session = open_session(lab)
    infos = snapshotting.infos(session.lab, session.provider)
    if json:
        show_json([asdict(info) for info in infos])
        return
    if not infos:
        print("no snapshot yet: invoke lab.snapshot NAME")
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
    show.table(console(), rows)
    print(f"together {sum(info.size for info in infos) / MIB:.0f} MiB")
