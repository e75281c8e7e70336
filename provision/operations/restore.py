"""Restore a lab from a snapshot: all of it, or nothing.

Everything that can fail for a reason known beforehand fails before the first change. From then on a
mark (`interrupted_restore`) is in the lab's directory; a killed restore is repeated and finishes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from provision import checks, providers
from provision.checks.balancer import STATISTICS
from provision.core import booting, interrupted_restore
from provision.core import state as states
from provision.core.errors import LabError, ProviderError
from provision.core.lab import ROOT, Lab
from provision.core.report import Report
from provision.core.ssh_config import write_ssh_config
from provision.core.state import State
from provision.core.waiting import timeout_factor, wait_until
from provision.database.failover import control as failover
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.operations import snapshot_archive as archive
from provision.operations.session import Session, open_session
from provision.operations.snapshot_archive import SnapshotManifest
from provision.operations.up import check_until_ok, require_ready
from provision.providers import snapshot_names
from provision.providers.base import Provider
from provision.services.haproxy.statistics import parse_servers
from provision.topology.labs import open_lab
from provision.topology.networks import recorded_networks

BOOT_SECONDS = 60.0 * timeout_factor()
SERVER_SECONDS = 3.0 * timeout_factor()


@dataclass(frozen=True)
class RestoredLab:
    """A restored lab.

    Args:
        removed: machines that the snapshot does not have.
        halted: machines that did not run when the snapshot was taken.
        topology_copy: the path of the restored topology file, when the checkout's has changed.
    """

    session: Session
    removed: tuple[str, ...]
    halted: tuple[str, ...]
    topology_copy: str = ""


def restore(lab_name: str, name: str, report: Report, root: Path = ROOT) -> RestoredLab:
    """Bring machines and files of a lab back. Call it with the lab locked.

    The checks are not run: the machines have booted when this returns.

    Raises:
        LabError: when the snapshot cannot be restored; its message says whether anything changed.
    """
    directory = root / ".lab" / lab_name
    current = None
    with contextlib.suppress(LabError):  # a damaged state is replaced by the snapshot's
        current = states.load(directory)
    if current is not None and current.provider == "ssh":
        lab, _ = open_lab(lab_name, root=root)
        providers.for_state(current).prepare_restore(lab, name, {}, report)  # refuses
    _require_archive(lab_name, name, current, root)
    manifest = archive.load(directory, name)
    provider = _provider(directory, current, manifest)
    archive.verify(directory, manifest)
    lab, _ = archive.stored_lab(directory, manifest, root)
    _require_network(lab)
    require_ready(lab, provider)
    provider.prepare_restore(lab, name, manifest.machines, report)

    interrupted_restore.begin(directory, name)
    removed = _remove_others(lab, provider, manifest, report)
    copy = archive.put_back(directory, manifest, root)
    provider.restore(lab, name, manifest.machines, report)
    session = open_session(lab_name)
    endpoints = provider.endpoints(session.lab)
    if endpoints:
        write_ssh_config(session.lab, endpoints)
    interrupted_restore.finish(directory)
    halted = tuple(m for m, stored in manifest.machines.items() if not stored.running)
    return RestoredLab(session, removed, halted, copy)


def check_restored(
    session: Session, fleet: Fleet, report: Report
) -> tuple[checks.CheckResult, ...]:
    """Wait until the machines have booted, then until all checks pass; returns their last results.

    Checks that run while the machines boot would slow them down.
    """
    report("host", "waiting for the machines to boot")
    with contextlib.suppress(LabError):  # the checks say so
        fleet.each(_wait_until_booted)
        fleet.each(_wait_for_servers, [m.name for m in session.lab.with_role("haproxy")])
    context = failover.adopt(session.context, fleet)
    return check_until_ok(context, fleet, session.provider, report)


def _wait_until_booted(host: Host) -> None:
    """Poll systemd; `Timeout` when it has not finished by then."""
    wait_until(
        lambda: booting.finished(host.run(*booting.COMMAND).stdout),
        BOOT_SECONDS,
        f"{host.name} to boot",
        interval=0.1,
    )


def _wait_for_servers(host: Host) -> None:
    """Wait until a balancer has found the servers that came back; one may be down on purpose."""

    def all_up() -> bool:
        servers = parse_servers(host.gather([STATISTICS])[STATISTICS].text)
        return not any(server.status.startswith("DOWN") for server in servers)

    wait_until(all_up, SERVER_SECONDS, f"the servers of {host.name}", interval=0.1)


def _require_archive(lab_name: str, name: str, current: State | None, root: Path) -> None:
    """Refuse a snapshot whose files are not in the lab's directory."""
    known = archive.names(root / ".lab" / lab_name)
    machines_only: Sequence[str] = ()
    if name not in known and current is not None and current.provider:
        with contextlib.suppress(LabError):  # its topology cannot be read any more
            lab, _ = open_lab(lab_name, root=root)
            machines_only = providers.for_state(current).snapshots(lab)
    if name in machines_only:
        raise LabError(
            f"snapshot {name} was taken by an earlier version and holds machines only",
            f"invoke lab.snapshot NAME takes a new one; invoke lab.snapshot {name} --delete"
            " removes this one",
        )
    snapshot_names.check_exists(name, known)


def _provider(directory: Path, current: State | None, manifest: SnapshotManifest) -> Provider:
    if current is not None and current.provider not in ("", manifest.provider):
        raise ProviderError(
            f"snapshot {manifest.name} has machines of provider {manifest.provider}, and lab "
            f"{directory.name} has machines of provider {current.provider}; nothing was changed",
            "invoke lab.snapshots lists the snapshots",
        )
    return providers.provider(manifest.provider)


def _require_network(lab: Lab) -> None:
    for other, network in recorded_networks(lab).items():
        if network.overlaps(lab.network):
            raise LabError(
                f"the snapshot's network {lab.network} is used by lab {other}; nothing was changed",
                f"invoke lab.destroy --lab {other}, if that lab is no longer needed",
            )


def _remove_others(
    lab: Lab, provider: Provider, manifest: SnapshotManifest, report: Report
) -> tuple[str, ...]:
    """Remove the machines that were added after the snapshot."""
    current = lab
    with contextlib.suppress(LabError):  # its topology or state cannot be read any more
        current, _ = open_lab(lab.name, root=lab.root)
    states_by_name = provider.state(current)
    existing = {name for name, state in states_by_name.items() if state != "absent"}
    existing |= set(provider.orphaned_machines(current))
    others = tuple(sorted(existing - manifest.machines.keys()))
    if others:
        provider.remove(current, others, report)
    return others
