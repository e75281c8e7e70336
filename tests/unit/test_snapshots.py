"""Snapshots on the controller's side: the archive, the order of a restore, and refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from provision import providers
from provision.core import interrupted_restore
from provision.core import state as states
from provision.core.endpoint import Endpoint
from provision.core.errors import LabError, ProviderError, UsageError
from provision.core.lab import ROOT, Lab
from provision.core.report import Report
from provision.core.state import State
from provision.core.stored_machine import StoredMachine, StoredMachines
from provision.operations import restore as restoring
from provision.operations import snapshot as snapshotting
from provision.operations import snapshot_archive as archive
from provision.operations.session import Session
from provision.topology.labs import open_lab

MIB = 2**20


def quiet(machine: str, doing: str) -> None: ...


@dataclass
class FakeProvider:
    """Machines as a set of names, and the calls in their order."""

    root: Path
    name: str = "fake"
    machines: dict[str, str] = field(default_factory=dict)
    stored: dict[str, dict[str, StoredMachine]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    failing: str = ""

    def _called(self, call: str) -> None:
        self.calls.append(call)
        if self.failing == call.split()[0]:
            raise ProviderError(f"{self.failing} failed")

    def preflight(self, lab: Lab) -> Sequence[object]:
        return ()

    def state(self, lab: Lab) -> Mapping[str, str]:
        return {m.name: self.machines.get(m.name, "absent") for m in lab.machines}

    def orphaned_machines(self, lab: Lab) -> Sequence[str]:
        return sorted(self.machines.keys() - {m.name for m in lab.machines})

    def remove(self, lab: Lab, machines: Sequence[str], report: Report) -> None:
        self._called(f"remove {' '.join(machines)}")
        for name in machines:
            self.machines.pop(name, None)

    def endpoints(self, lab: Lab) -> Mapping[str, Endpoint]:
        return {}

    def snapshots(self, lab: Lab) -> Sequence[str]:
        return sorted(self.stored)

    def snapshot(self, lab: Lab, name: str, report: Report) -> StoredMachines:
        self._called(f"snapshot {name}")
        self.stored[name] = {
            machine: StoredMachine(state == "running", "f", MIB)
            for machine, state in self.machines.items()
        }
        return StoredMachines(self.stored[name], 0.5)

    def prepare_restore(
        self, lab: Lab, name: str, machines: Mapping[str, StoredMachine], report: Report
    ) -> None:
        self._called(f"prepare {name}")

    def restore(
        self, lab: Lab, name: str, machines: Mapping[str, StoredMachine], report: Report
    ) -> None:
        self._called(f"restore {name}")
        self.machines = dict.fromkeys(machines, "running")

    def delete_snapshot(self, lab: Lab, name: str, report: Report) -> bool:
        self._called(f"delete {name}")
        self.stored.pop(name, None)
        return True


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeProvider:
    """A lab ``one`` in a checkout of its own, with its machines."""
    shutil.copytree(ROOT / "configs" / "topologies", tmp_path / "configs" / "topologies")
    directory = tmp_path / ".lab" / "one"
    (directory / "secrets").mkdir(parents=True, mode=0o700)
    (directory / "secrets" / "passwords.json").write_text('{"a": "first"}')
    (directory / "secrets" / "passwords.json").chmod(0o600)
    (directory / "secrets" / ".lock").touch()
    (directory / "ca.pem").write_text("first")
    (directory / "backups").mkdir()
    (directory / "backups" / "mine").write_text("mine")
    (directory / "lock").touch()
    fake = FakeProvider(tmp_path)
    record(fake, State(provider="fake", network="10.1.2.0/24", primary="web-01"))
    fake.machines = {"lb-01": "running", "web-01": "running", "web-02": "running"}
    monkeypatch.setattr(providers, "provider", lambda name: fake)
    monkeypatch.setattr(restoring, "open_session", lambda name: session(fake))
    return fake


def record(fake: FakeProvider, state: State) -> None:
    states.save(fake.root / ".lab" / "one", state)


def session(fake: FakeProvider) -> Session:
    lab, state = open_lab("one", root=fake.root)
    assert state is not None
    return Session(lab, state, fake)  # type: ignore[arg-type]


def take(fake: FakeProvider, name: str = "a") -> archive.SnapshotManifest:
    return snapshotting.take(session(fake), name, "a note", quiet).manifest


def restore(fake: FakeProvider, name: str = "a") -> restoring.RestoredLab:
    return restoring.restore("one", name, quiet, root=fake.root)


def directory(fake: FakeProvider) -> Path:
    return fake.root / ".lab" / "one"


def files(fake: FakeProvider) -> dict[str, str]:
    top = directory(fake)
    paths = (p for p in top.rglob("*") if p.is_file() and "snapshots" not in p.parts)
    return {p.relative_to(top).as_posix(): p.read_text() for p in paths if p.name != ".state.lock"}


def test_all_files_of_the_lab_are_restored(provider: FakeProvider) -> None:
    before = files(provider)
    take(provider)
    top = directory(provider)
    (top / "ca.pem").write_text("second")
    (top / "secrets" / "passwords.json").write_text("{}")
    (top / "releases").mkdir()
    (top / "releases" / "new").write_text("recorded later")
    (top / "backups" / "later").write_text("kept")
    states.change(top, topology="simple", weights={"web-01": 3}, release="new")
    provider.machines = {"web-01": "running"}
    restored = restore(provider)
    assert restored.removed == ()
    after = files(provider)
    assert after.pop("backups/later") == "kept"
    assert after.pop("secrets/.lock", "") == before.pop("secrets/.lock", "")
    assert after == before
    assert (top / "secrets" / "passwords.json").stat().st_mode & 0o777 == 0o600
    assert (top / "secrets").stat().st_mode & 0o777 == 0o700
    assert provider.machines.keys() == {"lb-01", "web-01", "web-02"}


def test_machines_of_the_later_topology_are_removed_first(provider: FakeProvider) -> None:
    states.change(directory(provider), topology="simple")
    provider.machines = {"web-01": "running"}
    take(provider)
    states.change(directory(provider), topology="distributed")
    provider.machines = {"lb-01": "running", "web-01": "running", "web-02": "halted"}
    assert restore(provider).removed == ("lb-01", "web-02")
    assert provider.calls == ["snapshot a", "prepare a", "remove lb-01 web-02", "restore a"]
    assert session(provider).state.topology == "simple"


def test_a_changed_topology_file_is_restored_as_a_copy(provider: FakeProvider) -> None:
    take(provider)
    path = provider.root / "configs" / "topologies" / "distributed.yml"
    stored = path.read_text()
    path.write_text(stored.replace("web-02", "web-09"))
    copy = Path(restore(provider).topology_copy)
    assert copy.read_text() == stored
    assert "web-09" in path.read_text()
    assert "web-02" in [m.name for m in session(provider).lab.machines]
    # A snapshot of this lab, and a comment in the file, need no further copy.
    take(provider, "b")
    assert restore(provider, "b").topology_copy == ""
    path.write_text(f"# a comment\n{stored}")
    assert restore(provider, "a").topology_copy == ""


def test_a_removed_topology_file_and_a_damaged_state(provider: FakeProvider) -> None:
    take(provider)
    (provider.root / "configs" / "topologies" / "distributed.yml").unlink()
    (directory(provider) / "state.json").write_text("{")
    assert restore(provider).topology_copy.endswith("one/topologies/distributed.yml")


@pytest.mark.parametrize("damage", ["manifest", "truncated", "removed", "added", "changed"])
def test_a_damaged_archive_is_refused(provider: FakeProvider, damage: str) -> None:
    take(provider)
    own = archive.folder(directory(provider), "a")
    own_files = own / "lab"
    if damage == "manifest":
        (own / archive.MANIFEST).unlink()
    elif damage == "truncated":
        (own / archive.MANIFEST).write_text("{")
    elif damage == "removed":
        (own_files / "secrets" / "passwords.json").unlink()
    else:
        (own_files / {"added": "other", "changed": "ca.pem"}[damage]).write_text("x")
    with pytest.raises(LabError, match=r"snapshot a is incomplete or damaged.*nothing was changed"):
        restore(provider)
    assert provider.calls == ["snapshot a"]


def test_refusals_before_anything_is_touched(provider: FakeProvider) -> None:
    take(provider)
    before = files(provider)
    with pytest.raises(UsageError, match="existing snapshots: a"):
        restore(provider, "b")
    record(provider, replace(session(provider).state, provider="lxc"))
    with pytest.raises(ProviderError, match=r"of provider fake, and lab one has.*lxc"):
        restore(provider)
    record(provider, replace(session(provider).state, provider="ssh"))
    provider.failing = "prepare"
    with pytest.raises(ProviderError, match="prepare failed"):  # as provider ssh always does
        restore(provider, "b")
    provider.failing = ""
    record(provider, replace(session(provider).state, provider="fake"))
    other = provider.root / ".lab" / "two"
    states.save(other, State(provider="lxc", network="10.1.0.0/16"))
    with pytest.raises(LabError, match=r"network 10\.1\.2\.0/24 is used by lab two"):
        restore(provider)
    shutil.rmtree(other)
    provider.failing = "prepare"
    with pytest.raises(ProviderError, match="prepare failed"):
        restore(provider)
    assert files(provider) == before
    interrupted_restore.refuse_interrupted(directory(provider))


def test_a_snapshot_of_machines_only_is_refused(provider: FakeProvider) -> None:
    provider.stored["old"] = {}
    with pytest.raises(LabError, match="taken by an earlier version and holds machines") as error:
        restore(provider, "old")
    assert "invoke lab.snapshot old --delete" in error.value.hint


@pytest.mark.parametrize("step", ["remove", "restore"])
def test_an_interrupted_restore_blocks_the_lab_until_it_is_repeated(
    provider: FakeProvider, step: str
) -> None:
    take(provider)
    provider.machines["web-03"] = "running"
    provider.failing = step
    with pytest.raises(ProviderError):
        restore(provider)
    for refused in (session(provider).fleet, lambda: take(provider, "b")):
        with pytest.raises(LabError, match="restoring snapshot a was interrupted") as error:
            refused()
        assert error.value.hint == "invoke lab.restore a"
    provider.failing = ""
    restore(provider)
    assert provider.machines.keys() == {"lb-01", "web-01", "web-02"}
    interrupted_restore.refuse_interrupted(directory(provider))


def test_interrupted_replacing_of_files_is_repeated(provider: FakeProvider) -> None:
    before = files(provider)
    manifest = take(provider)
    top = directory(provider)
    (top / "secrets").rename(top / ".restoring.secrets")
    (top / ".restored.ca.pem").write_text("half")
    archive.put_back(top, manifest, provider.root)
    assert {**files(provider), "secrets/.lock": ""} == before


def test_a_failed_snapshot_leaves_nothing(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.failing = "snapshot"
    with pytest.raises(ProviderError):
        take(provider)
    assert list((directory(provider) / archive.FOLDER).iterdir()) == []
    provider.failing = ""

    def full(directory: Path, manifest: archive.SnapshotManifest) -> None:
        raise LabError("No space left on device")

    monkeypatch.setattr(archive, "commit", full)
    with pytest.raises(LabError, match="No space"):
        take(provider)
    assert provider.stored == {}
    assert list((directory(provider) / archive.FOLDER).iterdir()) == []


def test_the_list_and_deletion(provider: FakeProvider) -> None:
    lab = session(provider).lab
    take(provider)
    take(provider, "broken")
    provider.stored["foreign"] = {}
    (archive.folder(directory(provider), "broken") / archive.MANIFEST).write_text("[]")
    rows = {info.name: info for info in snapshotting.infos(lab, provider)}  # type: ignore[arg-type]
    assert list(rows) == ["broken", "foreign", "a"]
    assert (rows["a"].note, rows["a"].topology, rows["a"].problem) == ("a note", "distributed", "")
    assert rows["a"].size > 3 * MIB
    assert "damaged" in rows["broken"].problem
    assert rows["foreign"].problem == snapshotting.OTHER_ORIGIN
    with pytest.raises(UsageError, match="snapshot a already exists"):
        take(provider)
    for name in rows:
        assert snapshotting.delete(lab, provider, name, quiet)  # type: ignore[arg-type]
    assert snapshotting.infos(lab, provider) == []  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="there is no snapshot 'a'"):
        snapshotting.delete(lab, provider, "a", quiet)  # type: ignore[arg-type]


def test_a_snapshot_of_another_version_is_refused(provider: FakeProvider) -> None:
    take(provider)
    path = archive.folder(directory(provider), "a") / archive.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 9}))
    with pytest.raises(LabError, match="its format is version 9, not 1"):
        restore(provider)
